# The test suites that clients publish with their packages, started as those packages say. Sourced by `run`.
# Each has a function prepare_suite_NAME that fetches it and sets `suite`, the command that runs it.

suites=(go-nsq gnsq)
suite_seconds_max=300
gnsq_version=1.0.2

run_suites() {
    local name
    for name in "${suites[@]}"; do
        if wanted suite "$name"; then run_suite "$name"; fi
    done
}

# The suites take the ports 4150 to 4161 for theirs and try addresses that are out of reach, so each
# runs in a network of its own, with nothing in it but the loopback interface.
run_suite() { # NAME
    local began=$EPOCHREALTIME output=$scratch/suite-$1.out suite=() code
    if [ -z "$nsqlookupd" ]; then
        report skip suite "$1" "no --lookupd"
        return
    fi
    if ! unshare --net ip link set lo up 2>/dev/null; then
        report skip suite "$1" "cannot have a network of its own: that takes root and iproute2"
        return
    fi
    mkdir -p "$scratch/suite-$1" "$scratch/bin"
    ln -sf "$nsqd" "$scratch/bin/nsqd"
    ln -sf "$nsqlookupd" "$scratch/bin/nsqlookupd"
    "prepare_suite_${1//-/_}" >"$output" 2>&1
    case $? in
        0) ;;
        "$unsupported") report skip suite "$1" "toolchain not installed"; return ;;
        *) report FAIL suite "$1" "could not be installed"; show_files "$output"; return ;;
    esac
    # shellcheck disable=SC2016 # the inner shell expands its arguments
    PATH=$scratch/bin:$PATH timeout -k 5 $suite_seconds_max \
        unshare --net sh -c 'ip link set lo up && exec "$@"' sh "${suite[@]}" >"$output" 2>&1 </dev/null
    code=$?
    judge_suite $code "$1" "$began" "$output" "$scratch/suite-$1"/*.log
}

# A suite has passed when all tests of this version have run and passed.
judge_suite() { # EXIT_CODE NAME BEGAN OUTPUT LOG...
    local code=$1 name=$2 began=$3 output=$4 found wanted
    shift 3
    case $name in
        go-nsq) found=$(grep -c '^--- PASS' "$output") wanted=24 ;;
        gnsq) found=$(sed -n 's/.* \([0-9]*\) passed in .*/\1/p' "$output") wanted=108 ;;
    esac
    if [ "$code" = 0 ] && [ "$found" = "$wanted" ]; then
        report ok suite "$name" "$(seconds_since "$began") s: $found tests"
        return
    fi
    report FAIL suite "$name" "$(seconds_since "$began") s: exit code $code, ${found:-0} of $wanted tests passed"
    grep -E '^(--- (FAIL|SKIP)|(FAILED|ERROR|SKIPPED) )' "$output" | cut -c 1-200 | sed 's/^/      | /'
    show_files "$@"
}

prepare_suite_go_nsq() {
    local module
    command -v go >/dev/null || return $unsupported
    (cd "$here/go" && go test -c -o "$work/go-nsq.test" github.com/nsqio/go-nsq) &&
        module=$(cd "$here/go" && go list -m -f '{{.Dir}}' github.com/nsqio/go-nsq) || return 1
    suite=("$here/suites/go-nsq" "$work/go-nsq.test" "$module" "$scratch/suite-go-nsq")
}

prepare_suite_gnsq() {
    local source=$work/gnsq-$gnsq_version
    command -v python3 >/dev/null || return $unsupported
    python_environment gnsq "$here/suites/gnsq.txt" || return
    if [ ! -e "$source" ]; then
        "$work/gnsq/bin/pip" download --no-deps --no-binary gnsq --dest "$scratch" "gnsq==$gnsq_version" &&
            tar -xzf "$scratch/gnsq-$gnsq_version.tar.gz" -C "$work" || return 1
    fi
    suite=("$here/suites/gnsq" "$work/gnsq/bin/python" "$source")
}
