#!/usr/bin/env bash
# install.sh DIR: makes a Python environment with the pinned client, unless it is there. Two at once do no harm.
set -euo pipefail
client="kubernetes==36.0.3"
directory=$1
mkdir -p "$(dirname "$directory")"
exec 9>"$directory.lock"
flock 9
[ "$(cat "$directory/client" 2>/dev/null)" = "$client" ] && exit
rm -rf "$directory"
python3 -m venv "$directory" || { echo "python3 -m venv fails: install python3-venv, as ./x test does" >&2; exit 1; }
"$directory/bin/pip" install --quiet --disable-pip-version-check "$client"
echo "$client" > "$directory/client"
