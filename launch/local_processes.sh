#!/usr/bin/env bash
# N processes on the CPU of this machine that train together, to rehearse a run on a cluster.
#   launch/local_processes.sh N --config=configs/NAME.py --workdir=DIR
# PORT is the port of process 0 on the loopback interface.
set -euo pipefail

if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 N --config=configs/NAME.py --workdir=DIR" >&2
  exit 2
fi
processes=$1
shift
port=${PORT:-$((20000 + RANDOM % 12000))}

export JAX_PLATFORMS=cpu
children=()
for ((i = 0; i < processes; i++)); do
  "${PYTHON:-python}" -m iqa_jax.main "$@" --distributed \
    --coordinator_address="127.0.0.1:$port" --num_processes="$processes" --process_id="$i" &
  children+=($!)
done
trap 'kill "${children[@]}" 2>/dev/null || true' INT TERM

# When a process is gone the others end by themselves within about 10 s.
code=0
for child in "${children[@]}"; do
  wait "$child" || { status=$?; [[ $code != 0 ]] || code=$status; }
done
wait # a signal ends the wait for one child early
exit "$code"
