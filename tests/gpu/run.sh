#!/usr/bin/env bash
# Checks and times the CUDA backend on a machine with one GPU, in at most 8 minutes.
#
#   tests/gpu/run.sh [--out FOLDER] [--wheels FOLDER] [--peers FOLDER]
#   tests/gpu/run.sh --pack FOLDER      on a machine with a network: the wheels that --wheels takes on one without
#
# It makes an environment of its own, beside what is there. Parts that can't run (no compute-sanitizer, no PyTorch, no JAX, no folder of
# peers) are named in the report and do not fail it. The report: FOLDER/report.json, FOLDER/report.md.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=runs/gpu wheels= peers= pack= began=$SECONDS limit=470
while [ $# -gt 0 ]; do
  case $1 in
    --out|--wheels|--peers|--pack) [ $# -gt 1 ] || { echo "$1 takes a folder" >&2; exit 2; }; declare "${1#--}=$2"; shift 2 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python3}
packages=(numpy llvmlite networkx ml_dtypes safetensors click rich setuptools wheel pytest hypothesis)
cuda13=(cupy-cuda13x nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cublas)
cuda12=(cupy-cuda12x nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12 nvidia-cublas-cu12)
frameworks=(torch "jax[cuda13]")

if [ -n "$pack" ]; then
  mkdir -p "$pack"
  for set in "${packages[*]} ${cuda13[*]}" "${packages[*]} ${cuda12[*]}" "${frameworks[*]}"; do
    # shellcheck disable=SC2086
    "$python" -m pip download -q -d "$pack" $set || echo "not packed: $set" >&2
  done
  exit 0
fi

mkdir -p "$out"
log=$out/log.txt
: > "$log"
left() { echo $((limit - (SECONDS - began))); }
# part NAME SECONDS COMMAND...: run it within its time and what is left of all; its result is a line of parts.tsv
: > "$out/parts.tsv"
part() {
  local name=$1 most=$2 start=$SECONDS rest
  shift 2
  rest=$(left)
  [ "$rest" -lt "$most" ] && most=$rest
  if [ "$most" -lt 5 ]; then printf '%s\tleft out\tno time left\n' "$name" >> "$out/parts.tsv"; return 0; fi
  echo "== $name" | tee -a "$log"
  timeout -k 5 "$most" "$@" 2>&1 | tee -a "$log" | tail -n 12
  local status=${PIPESTATUS[0]}
  case $status in 0) told=passed ;; 77) told='left out' ;; 124|137) told="stopped after $most s" ;; *) told=failed ;; esac
  printf '%s\t%s\t%s s\n' "$name" "$told" $((SECONDS - start)) >> "$out/parts.tsv"
  return "$status"
}

command -v nvidia-smi > /dev/null || { echo "there is no NVIDIA driver here: nvidia-smi is missing" >&2; exit 1; }
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/device.txt"
version=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1)
cuda=("${cuda13[@]}")
[ "${version:-13}" -lt 13 ] && cuda=("${cuda12[@]}")

# An environment that sees what is installed, so that a PyTorch or a JAX which is there is compared with.
"$python" -m venv --system-site-packages "$out/venv" || exit 1
py=$out/venv/bin/python
from=()
[ -n "$wheels" ] && from=(--no-index --find-links "$wheels")
part "packages" 120 "$py" -m pip install -q "${from[@]}" "${packages[@]}" "${cuda[@]}" || { echo "packages can't be installed; --wheels names a folder of them" >&2; exit 1; }
part "frameworks" 100 "$py" -m pip install -q "${from[@]}" "${frameworks[@]}" || true

export PYTHONPATH=$PWD NAGRAPH_STRICT=1 XDG_CACHE_HOME=$PWD/$out/cache XLA_PYTHON_CLIENT_PREALLOCATE=false
failed=0
part "info" 30 "$py" -m nagraph info || failed=1
part "device" 40 "$py" -c 'import sys, nagraph as ng
told = ng.backends.find("cuda").missing()
print(told or "it can be used")
sys.exit(bool(told))' || failed=1
part "arrays, driver, errors" 40 "$py" -m pytest -q -x -p no:cacheprovider tests/gpu/test_device.py || failed=1
part "ops and models" 110 "$py" -m tests.gpu.device suite || failed=1
part "replay against eager launches" 40 "$py" -m tests.gpu.device replay || failed=1
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null || true)
for tool in memcheck racecheck initcheck synccheck; do
  if [ -n "$sanitizer" ]; then
    part "compute-sanitizer $tool" 25 "$sanitizer" --tool "$tool" --error-exitcode 9 "$py" -m tests.gpu.device sample || failed=1
  else
    printf 'compute-sanitizer %s\tleft out\tit is not installed\n' "$tool" >> "$out/parts.tsv"
  fi
done
part "speed" 160 "$py" -m tests.gpu.speed --out "$out" ${peers:+--peers "$peers"} || failed=1
"$py" -m tests.gpu.speed --report --out "$out"
exit $failed
