# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of Sphinx; "make docs" builds the site."""

project = 'td3_agent'
author = 'td3_agent maintainers'
project_copyright = 'Apache-2.0'
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.napoleon',
]
# Attributes are described with their class, where they are also declared.
napoleon_use_ivar = True
# Types such as NDArray[np.bool_] would be read as links.
napoleon_attr_annotations = False
autosummary_generate = True
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False  # other libraries write theirs in other markup
autodoc_typehints = 'none'  # they stand in the signatures' sources, with names of ROS 2 in them
autodoc_default_options = {'members': True, 'undoc-members': False}
# Compiled, and not there on the machine that builds the site.
autodoc_mock_imports = ['onnxruntime', 'ray', 'stable_baselines3']
myst_heading_anchors = 3
exclude_patterns = ['_build', 'results']
html_theme = 'alabaster'
