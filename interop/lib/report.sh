# One line for each scenario, and the counts. Sourced by `run`.

passed=0
failed=0
skipped=0

seconds_since() { # EPOCHREALTIME
    awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'
}

report() { # WORD LANGUAGE SCENARIO REMARK
    local word=$1
    # What did not run must not look like what has passed.
    if [ "$word" = skip ] && [ "${CI-}" = true ]; then word=FAIL; fi
    printf '%-5s %-7s %-26s %s\n' "$word" "$2" "$3" "$4"
    case $word in
        ok) passed=$((passed + 1)) ;;
        FAIL) failed=$((failed + 1)) ;;
        skip) skipped=$((skipped + 1)) ;;
    esac
}

judge() { # EXIT_CODE LANGUAGE SCENARIO BEGAN OUTPUT_OR_LOG...
    local code=$1 language=$2 name=$3 began=$4
    shift 4
    case $code in
        0) report ok "$language" "$name" "$(seconds_since "$began") s" ;;
        "$unsupported") report skip "$language" "$name" "$(tail -n 1 "$1")" ;;
        124 | 137) report FAIL "$language" "$name" "hung for $scenario_seconds_max s" ;;
        *) report FAIL "$language" "$name" "$(seconds_since "$began") s: exit code $code" ;;
    esac
    if [ "$code" != 0 ] && [ "$code" != "$unsupported" ]; then
        show_files "$@"
    fi
}

show_files() { # what a failed scenario and its nsqds had to say
    local file
    for file in "$@"; do
        [ -s "$file" ] || continue
        echo "      --- $(basename "$file"), last lines"
        grep -v ' 200 GET /stats' "$file" | tail -n 12 | cut -c 1-200 | sed 's/^/      | /'
    done
}
