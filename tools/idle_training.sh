#!/bin/sh
# Fine-tune the shipped fine network on idle cores, in the background, stopped and continued at any time.
#
#   tools/idle_training.sh start ../shared/data    begin, or go on where it was
#   tools/idle_training.sh pause | go              while anything is timed, and afterwards
#   tools/idle_training.sh status                  the last lines of the log
#   tools/idle_training.sh stop                    end with everything saved
#   tools/idle_training.sh export MODEL            the averaged weights as a model folder, to be measured
#
# State, scenes and log are in .train/idle (RUN), which git ignores. If they are lost, start begins from the model that
# ships (START). More options of heartseg train-default follow DATA.
set -eu
cd "$(dirname "$0")/.."
run=${RUN:-.train/idle}
model=${START:-Models/HeartSeg-Default}
python=${PYTHON:-python}
export PYTHONPATH="$PWD/HeartSeg/Logic${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1

alive() { [ -f "$run/pid" ] && kill -0 "$(cat "$run/pid")" 2>/dev/null; }

case "${1:-}" in
start)
    data=${2:?name the data folder}
    shift 2
    alive && { echo "already running (process $(cat "$run/pid"))"; exit 1; }
    mkdir -p "$run"
    setsid nice -n 19 "$python" -m heartseg.training.default "$data" -o "$run" --device cpu --size full --only fine \
        --threads 2 --empty-views 0.4 --learning-rate 5e-4 --fine-steps 10000 --scenes 200 --heartless 20 --begin-with 8 \
        --workers 2 --seed 6 --start-from "$model" "$@" >>"$run/log.txt" 2>&1 </dev/null &
    echo $! >"$run/pid"
    echo "process $! writes $run/log.txt"
    ;;
pause) alive && env kill -s STOP -- "-$(cat "$run/pid")" ;;
go) alive && env kill -s CONT -- "-$(cat "$run/pid")" ;;
stop)
    alive || { echo "not running"; exit 1; }
    env kill -s CONT -- "-$(cat "$run/pid")"
    kill -TERM "$(cat "$run/pid")"
    while alive; do sleep 1; done
    ;;
status)
    alive && echo "running" || echo "not running"
    tail -n 5 "$run/log.txt"
    ;;
export)
    "$python" -m heartseg.training.export --run "$run" --scenes "$run/scenes" --size full --seed 6 \
        --finder "$model" --out "${2:?name the model folder}"
    ;;
*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
