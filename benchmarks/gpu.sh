#!/usr/bin/env bash
# What to run if a GPU is available for a few minutes only, the most important first: the installation, the ops' tests,
# the ops compared with eager mode by the CUDA and Triton kernels, whole iterations, then torch.compile and the rest.
#
#   benchmarks/gpu.sh [--dry-run] [--minutes N] [--out FOLDER]
#
# FOLDER (default: benchmarks/results/ and the device's name) gets the results and a log of each step. If a step fails
# or takes too long, the later steps still run and the exit code is 1. --dry-run prints the steps.
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=10 out="" dry=""
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
	case $1 in
	--dry-run) dry=1 ;;
	--minutes | --out)
		[ $# -gt 1 ] || { echo "gpu.sh: $1 needs a value" >&2; exit 2; }
		if [ "$1" = --minutes ]; then minutes=$2; else out=$2; fi
		shift
		;;
	-h | --help) usage; exit 0 ;;
	*) echo "gpu.sh: unknown option $1" >&2; usage >&2; exit 2 ;;
	esac
	shift
done
case $minutes in '' | *[!0-9]* | 0) echo "gpu.sh: --minutes takes a whole number of at least 1, got $minutes" >&2; exit 2 ;; esac
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || { echo "gpu.sh: no $python: run make setup, or set PYTHON" >&2; exit 2; }
if [ -z "$dry" ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
	echo "gpu.sh: torch sees no GPU here: --dry-run prints what would run" >&2
	exit 2
fi
if [ -z "$out" ]; then
	name=DEVICE
	[ -n "$dry" ] || name=$("$python" -c 'import re, torch; print(re.sub(r"\W+", "-", torch.cuda.get_device_name().lower()))')
	out=benchmarks/results/$name
fi
until=$((SECONDS + 60 * minutes)) failed=0

# step NAME COMMAND...
step() {
	local name=$1 left=$((until - SECONDS))
	shift
	if [ -n "$dry" ]; then
		printf '%-16s %s\n' "$name" "$*"
		return
	fi
	if [ "$left" -lt 5 ]; then
		echo "$name: left out, the $minutes minutes are over" >&2
		failed=1
		return
	fi
	local began=$SECONDS
	if timeout --kill-after=10 "$left" "$@" >"$out/logs/$name.log" 2>&1; then
		echo "$name: done in $((SECONDS - began)) s"
	else
		echo "$name: failed after $((SECONDS - began)) s, see $out/logs/$name.log" >&2
		failed=1
	fi
}

[ -n "$dry" ] || mkdir -p "$out/logs" || exit 2
run=("$python" benchmarks/run.py)
step info "$python" -m dfad_fast.info --json
step build env FORCE_CUDA=1 "$python" setup.py build_ext --inplace
step test-cuda "$python" -m pytest -q -p no:cacheprovider -m "not slow" tests/ops --device=cuda
step ops-cuda env DFAD_FAST_BACKEND=cpp "${run[@]}" ops --device cuda --quick --no-compile --out "$out/ops"
step step-resnet "${run[@]}" step --device cuda --quick --pair resnet --out "$out/step-resnet"
step ops-triton env DFAD_FAST_BACKEND=triton "${run[@]}" ops --device cuda --quick --no-compile --out "$out/ops-triton"
step step-lenet "${run[@]}" step --device cuda --quick --pair lenet --out "$out/step-lenet"
step test-gpu "$python" -m pytest -q -p no:cacheprovider tests/cuda/test_gpu.py
step test-triton env DFAD_FAST_BACKEND=triton "$python" -m pytest -q -p no:cacheprovider -m "not slow" tests/ops --device=cuda
step ops-compile "${run[@]}" ops --device cuda --out "$out/ops-compile"
step digits "$python" -m dfad_fast distill --dataset digits --device cuda --out "$out/digits" --overwrite
exit "$failed"
