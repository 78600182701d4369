#!/usr/bin/env bash
# The same command on every worker of a Cloud TPU slice; JAX finds the other workers itself.
#   TPU=NAME ZONE=us-central2-b launch/tpu_pod.sh --config=configs/NAME.py --workdir=/mnt/shared/DIR
# Before the first run, put the checkout on every worker and install it there:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command='cd iqa_jax && pip install -e ".[tpu,gcs,pretrained]"'
# FOLDER is where the checkout lies on the workers. The workdir must be a folder that all of them
# share, or a gs:// one.
# A SIGTERM or Ctrl-C stops the processes on all workers; the same command continues.
set -euo pipefail

: "${TPU:?set TPU to the name of the slice}" "${ZONE:?set ZONE to its zone}"
on_workers() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

arguments=$(printf ' %q' "$@")
# When a process dies, the others say which; JAX's own log of it is long and names nobody.
quiet="TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-4}"
interrupted=yes
# The brackets keep the pattern from finding the shell that looks for it.
trap 'interrupted=yes; on_workers "pkill -TERM -f \"[i]qa_jax.main --distributed\"" || true' TERM INT
on_workers "cd ${FOLDER:-iqa_jax} && $quiet python3 -m iqa_jax.main --distributed$arguments" &
run=$!
while [[ -n "$interrupted" ]]; do # a signal ends the wait early
  interrupted=''
  code=0
  wait "$run" || code=$?
done
exit "$code"
