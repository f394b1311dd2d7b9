#!/bin/sh
# Make a virtual environment and install heartseg into it: install.sh PYTHON VENV EXTRA
set -eu
python=$1 venv=$2 extra=$3

"$python" - <<'CHECK' || exit 2
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"HeartSeg needs Python 3.10 to 3.13, this is {sys.version.split()[0]}: run make PYTHON=python3.12 ...")
try:
    import ensurepip, venv
except ImportError:
    sys.exit("this Python has no venv module (on Debian and Ubuntu: apt install python3-venv)")
CHECK

case $extra in
  light) what="ONNX Runtime, SimpleITK, VTK, matplotlib"; size="about 0.3 GB" ;;
  app) what="torch, SimpleITK, VTK, matplotlib"; size="about 0.5 GB with torch's CPU build" ;;
  dev) what="the above, Slicer's core, nnU-Net v2, OpenVINO and the test tools"; size="about 0.7 GB with torch's CPU build" ;;
esac
echo "HeartSeg sets up $venv (nothing outside this folder is changed)."
echo "It downloads $what: $size."
set -- -c requirements/constraints.txt -e ".[$extra]"
if [ "$extra" != light ]; then
  cat <<TELL
It is several GB (6 GB installed) where pip's index serves torch with CUDA (Linux, from PyPI). For the small CPU build there:
  TORCH_INDEX=https://download.pytorch.org/whl/cpu make ...
TELL
  set -- "torch==2.13.0" "$@"
  if [ -n "${TORCH_INDEX:-}" ]; then set -- --extra-index-url "$TORCH_INDEX" "$@"; fi
  runtime=torch
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@" 2>&1 | grep -v "is ignored: it is neither" || true
"$venv/bin/python" -c "import heartseg, ${runtime:-onnxruntime}, SimpleITK" || {
  echo "the installation did not finish: look at pip's messages above, then run make again" >&2
  exit 2
}
