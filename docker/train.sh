#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Trains into a folder, or continues the run in it: train.sh DIR [ARGUMENT …]. A run that was killed
# before its first snapshot has left only its settings, and starts again from them.

set -euo pipefail

out=$1
shift
resume=()
if [ -e "$out/config.json" ]; then resume=(--resume); fi
exec python -m td3_agent train --out "$out" "${resume[@]}" "$@"
