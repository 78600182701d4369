#!/usr/bin/env bash
# N processes on the CPU of this machine that work together, to rehearse a run on a cluster.
#   launch/local_processes.sh N --config=configs/NAME.py --workdir=DIR
# PORT is the port of process 0 on the loopback interface. BIND=1 gives every process its own cores,
# so that they do not wait for each other's threads. A SIGTERM or Ctrl-C goes to all of them; the
# exit code is that of the first that fails.
set -euo pipefail

if [[ ! "${1:-}" =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 N --config=configs/NAME.py --workdir=DIR" >&2
  exit 2
fi
processes=$1
shift
port=${PORT:-$((20000 + RANDOM % 12000))}
if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
  echo "Error: port $port is taken; set PORT to a free one, or leave it unset." >&2
  exit 1
fi

export JAX_PLATFORMS=cpu
# When a process dies, the others say which; JAX's own log of it is long and names nobody.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-4}"
cores=() # those that this shell may use
if [[ "${BIND:-0}" == 1 ]]; then
  IFS=, read -ra ranges <<<"$(taskset -pc $$ | sed 's/.*: //')"
  for range in "${ranges[@]}"; do
    cores+=($(seq "${range%-*}" "${range#*-}"))
  done
fi
children=()
stop() { kill "${children[@]}" 2>/dev/null || true; }
trap stop INT TERM
for ((i = 0; i < processes; i++)); do
  bind=()
  if [[ ${#cores[@]} -ge $processes ]]; then
    first=$((i * ${#cores[@]} / processes))
    count=$(((i + 1) * ${#cores[@]} / processes - first))
    bind=(taskset -c "$(IFS=, && echo "${cores[*]:first:count}")")
  fi
  ${bind[@]+"${bind[@]}"} "${PYTHON:-python}" -m iqa_jax.main "$@" --distributed \
    --coordinator_address="127.0.0.1:$port" --num_processes="$processes" --process_id="$i" &
  children+=($!)
done

# The others of a dead process end by themselves in less than 30 s, unless it died before they met:
# then they are killed after PATIENCE seconds.
patience=${PATIENCE:-45}
exec 3>&2 2>/dev/null # the shell would report killed processes by their whole command line
code=0
failed=''
declare -A collected=()
while running=" $(jobs -pr | tr '\n' ' ')" && [[ "$running" != ' ' ]]; do
  sleep 0.1
  for ((i = 0; i < processes; i++)); do
    if [[ -z "${collected[$i]:-}" && "$running" != *" ${children[$i]} "* ]]; then
      status=0
      wait "${children[$i]}" || status=$?
      collected[$i]=yes
      if [[ $status != 0 && $code == 0 ]]; then
        code=$status failed=$i since=$SECONDS
      fi
    fi
  done
  if [[ -n "$failed" && $((SECONDS - since)) -ge $patience ]]; then
    echo "Process $failed of $processes has stopped with exit code $code; the others are stopped too." \
      "Start the same command again to continue." >&3
    kill -KILL $running 2>/dev/null || true
    patience=1000000
  fi
done
for ((i = 0; i < processes; i++)); do # those that ended since the last look
  status=0
  [[ -n "${collected[$i]:-}" ]] || wait "${children[$i]}" || status=$?
  [[ $code != 0 ]] || code=$status
done
exit "$code"
