# Installs the clients, each in a function prepare_LANGUAGE that sets `program`. Sourced by `run`.

digest() {
    cat "$@" | cksum | tr ' ' '-'
}

prepare_go() {
    command -v go >/dev/null || return $unsupported
    (cd "$here/go" && go build -o "$work/go-scenarios" .) || return 1
    program=("$work/go-scenarios")
}

prepare_python() {
    command -v python3 >/dev/null || return $unsupported
    python_environment python "$here/python/requirements.txt" || return
    program=("$work/python/bin/python" -B "$here/python/scenarios.py")
}

python_environment() { # NAME REQUIREMENTS: makes a virtual environment in `work`
    local venv=$work/$1 stamp
    python3 -c 'import venv, ensurepip' 2>/dev/null || return $unsupported
    stamp=$venv/installed-$(digest "$2")
    [ ! -e "$stamp" ] || return 0
    rm -rf "$venv"
    python3 -m venv "$venv" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" &&
        touch "$stamp"
}

prepare_node() {
    local stamp
    command -v node >/dev/null && command -v npm >/dev/null || return $unsupported
    stamp=$here/node/node_modules/.installed-$(digest "$here/node/package.json" "$here/node/package-lock.json")
    if [ ! -e "$stamp" ]; then
        (cd "$here/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) &&
            touch "$stamp" || return 1
    fi
    program=(node "$here/node/scenarios.js")
}
