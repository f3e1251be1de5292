# SPDX-License-Identifier: Apache-2.0
"""Text between markers is renewed, and nothing else."""

from marked import renewed
import pytest

DOCUMENT = 'before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\n<!-- end -->\nafter\n'


def test_document_gets_its_block_renewed_and_nothing_else():
    once = renewed(DOCUMENT, 'a', 'new\n')
    assert once == DOCUMENT.replace('old', 'new')
    assert renewed(once, 'a', 'new') == once
    assert renewed(DOCUMENT, 'b', r'\1') == DOCUMENT.replace('b -->\n', 'b -->\n\\1\n')


@pytest.mark.parametrize('document', [DOCUMENT, DOCUMENT.replace('b -->', 'a -->'), ''])
def test_block_that_is_missing_or_there_twice_is_refused(document):
    block = 'c' if 'b -->' in document else 'a'
    found = document.count('<!-- a -->') if block == 'a' else 0
    with pytest.raises(ValueError, match=f'one block <!-- {block} -->, found {found}'):
        renewed(document, block, 'new')
