# The same delivery over everything that can lie between a client and nsqd, and the clients that
# must be turned away. Sourced by `run`.

# Layers joined with +; `certificate` is one that the client shows, `unix` a socket on nsqd's side.
transports=(snappy deflate tls tls+snappy tls+deflate auth tls+certificate+auth unix)
refused=refused_clients
export AUTH_SECRET="let me in"

# A certificate authority with one server and one client, and a client of another authority.
make_certificates() {
    export CERTIFICATES=$scratch/certificates
    [ ! -e "$CERTIFICATES/stranger.pem" ] || return 0
    mkdir -p "$CERTIFICATES"
    (
        cd "$CERTIFICATES" || exit 1
        make_authority ca && make_authority foreign &&
            make_certificate server ca localhost "subjectAltName=DNS:localhost,IP:127.0.0.1" &&
            make_certificate client ca client.interop "extendedKeyUsage=clientAuth" &&
            make_certificate stranger foreign client.interop "extendedKeyUsage=clientAuth"
    ) >"$CERTIFICATES/openssl.log" 2>&1
}

make_authority() { # NAME
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
}

make_certificate() { # NAME AUTHORITY COMMON_NAME EXTENSION
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj "/CN=$3" -keyout "$1.key" -out "$1.csr" &&
        openssl x509 -req -days 2 -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial \
            -extfile <(echo "$4") -out "$1.pem"
}

run_transports() { # LANGUAGE
    local name
    for name in "${transports[@]}" "$refused"; do
        if wanted "$1" "$name"; then run_transport "$1" "$name"; fi
    done
}

run_transport() { # LANGUAGE TRANSPORT
    local began=$EPOCHREALTIME output=$scratch/$1-$2.out name=$1-$2-nsqd servers=() nsqds=() code=
    local program=("${program[@]}")
    if ! make_certificates; then
        report FAIL "$1" "$2" "no certificates"
        show_files "$CERTIFICATES/openssl.log"
        return
    fi
    prepare_transport "$1" "$2" || { report FAIL "$1" "$2" "the client could not be installed"; return; }
    if start_transport "$2" "$name"; then
        case $2 in
            "$refused") TRANSPORT=tls+certificate+auth run_program refused "$output" ;;
            *) TRANSPORT=$2 run_program transport "$output" ;;
        esac
        code=$?
    fi
    stop_all "$1" "${nsqds[@]+"${nsqds[@]}"}"
    for name in "${servers[@]+"${servers[@]}"}"; do stop_nsqd "$name" KILL; done
    if [ -n "$code" ]; then
        judge "$code" "$1" "$2" "$began" "$output" "$scratch/$1-$2"-*.log
    else
        report FAIL "$1" "$2" "nsqd or a server beside it did not start"
    fi
}

start_transport() { # TRANSPORT NAME
    case $1 in
        auth) start_auth "$2" ;;
        unix) start_unix "$2" ;;
        *certificate* | "$refused") start_secured "$2" ;;
        *) start_plain "$2" ;;
    esac
}

# pynsq needs an older Tornado for compression.
prepare_transport() { # LANGUAGE TRANSPORT: may change `program`
    case $1/$2 in
        python/*snappy | python/*deflate)
            python_environment compressed "$here/python/compressed.txt" &&
                program[0]=$work/compressed/bin/python
            ;;
    esac
}

# Each start_NSQD sets NSQD_TCP and NSQD_HTTP and adds what it started to `nsqds` and `servers`.

start_plain() { # NAME
    start_nsqd "$1" -tls-cert "$CERTIFICATES/server.pem" -tls-key "$CERTIFICATES/server.key" || return 1
    nsqds+=("$started_pid")
    export NSQD_TCP=$started_tcp NSQD_HTTP=$started_http
}

start_auth() { # NAME
    start_server "$1-server" auth.py || return 1
    servers+=("$started_pid")
    start_nsqd "$1" -auth-http-address "$started_address" || return 1
    nsqds+=("$started_pid")
    export NSQD_TCP=$started_tcp NSQD_HTTP=$started_http
}

# Clients must come over TLS, with a certificate, with a secret.
start_secured() { # NAME
    start_server "$1-server" auth.py --certificates || return 1
    servers+=("$started_pid")
    start_nsqd "$1" -auth-http-address "$started_address" \
        -tls-cert "$CERTIFICATES/server.pem" -tls-key "$CERTIFICATES/server.key" \
        -tls-root-ca-file "$CERTIFICATES/ca.pem" -tls-client-auth-policy require-verify \
        -tls-required=tcp-https || return 1
    nsqds+=("$started_pid")
    export NSQD_TCP=$started_tcp NSQD_HTTP=$started_http
}

# None of the clients dials unix sockets: their connections go through relays.
start_unix() { # NAME
    local address relayed=()
    start_nsqd "$1" -tcp-address "$scratch/$1.tcp" -http-address "$scratch/$1.http" || return 1
    nsqds+=("$started_pid")
    for address in "$started_tcp" "$started_http"; do
        start_server "$1-relay" relay.py "$address" || return 1
        servers+=("$started_pid") relayed+=("$started_address")
    done
    export NSQD_TCP=${relayed[0]} NSQD_HTTP=${relayed[1]}
}
