# Starts and stops processes that say on which port they listen. Sourced by `run`.

running=()

start_nsqd() { # NAME [FLAG...]: sets started_pid, started_tcp, started_http
    local name=$1 data=$scratch/$1
    shift
    mkdir -p "$data"
    start_daemon "$name" "$nsqd" -data-path "$data" -https-address 127.0.0.1:0 "$@"
}

start_lookupd() { # NAME: sets started_pid, started_tcp, started_http
    start_daemon "$1" "$nsqlookupd"
}

start_daemon() { # NAME BINARY [FLAG...]: sets started_pid, started_tcp, started_http
    local binary=$2 log tries
    log=$scratch/$1.$RANDOM.log
    shift 2
    : >"$log"
    "$binary" -tcp-address 127.0.0.1:0 -http-address 127.0.0.1:0 -broadcast-address 127.0.0.1 "$@" \
        >"$log" 2>&1 </dev/null &
    started_pid=$!
    running+=("$started_pid")
    for ((tries = 0; tries < 200; tries++)); do
        started_tcp=$(sed -n 's/.* TCP: listening on \(.*\)/\1/p' "$log")
        started_http=$(sed -n 's/.* HTTP: listening on \(.*\)/\1/p' "$log")
        if [ -n "$started_tcp" ] && [ -n "$started_http" ]; then return 0; fi
        kill -0 "$started_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "!!!!! $(basename "$binary") did not start or did not say where it listens"
    show_files "$log"
    return 1
}

# The servers that stand beside nsqd are written in Python, without packages.
start_server() { # NAME FILE [ARGUMENT...]: sets started_pid, started_address
    local log=$scratch/$1.$RANDOM.log file=$2 tries
    shift 2
    : >"$log"
    python3 -B "$here/servers/$file" "$@" >"$log" 2>&1 </dev/null &
    started_pid=$!
    running+=("$started_pid")
    for ((tries = 0; tries < 200; tries++)); do
        started_address=$(sed -n 's/^listening on //p' "$log")
        if [ -n "$started_address" ]; then return 0; fi
        kill -0 "$started_pid" 2>/dev/null || break
        sleep 0.05
    done
    echo "!!!!! $file did not start"
    show_files "$log"
    return 1
}

stop_nsqd() { # PID SIGNAL: returns nsqd's exit code when the process is gone
    local pid=$1 tries left=() other code
    kill "-$2" "$pid" 2>/dev/null
    if [ "$2" != KILL ]; then
        for ((tries = 0; tries < 200; tries++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null
    fi
    wait "$pid" 2>/dev/null
    code=$?
    for other in "${running[@]}"; do
        if [ "$other" != "$pid" ]; then left+=("$other"); fi
    done
    running=("${left[@]+"${left[@]}"}")
    return $code
}

stop_all() { # LANGUAGE PID...: reports those that do not stop as they should
    local language=$1 pid
    shift
    for pid in "$@"; do
        stop_nsqd "$pid" TERM || report FAIL "$language" shutdown "a daemon did not stop cleanly on SIGTERM"
    done
}

kill_running() {
    local pid
    for pid in "${running[@]+"${running[@]}"}"; do
        kill -9 "$pid" 2>/dev/null
    done
}
