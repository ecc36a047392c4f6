#!/bin/bash
# A real OCI registry (CNCF Distribution 2.8, Debian's docker-registry) on 127.0.0.1, everything in the folder DIR/registry.
#   registry-server.sh start DIR PORT [USER PASSWORD]  returns when ready and prints {"endpoint","host","user","password","pid"};
#                                                   PORT 0 takes a free one; USER PASSWORD turns basic auth on.
#                                                   A DIR that was stopped, or killed, is served again with its content
#   registry-server.sh gc DIR [dry-run|untagged]       removes the blobs that no manifest needs; the registry is down meanwhile.
#                                                   untagged: also untagged manifests, with 2.8 even those a tagged index names
#   registry-server.sh stop DIR                        stops it and leaves nothing running; the files stay
# One line of JSON on stdout, everything else on stderr and in DIR/registry/log. Exit 0 good, 1 failed, 2 wrong usage.
set -euo pipefail
die() { echo "registry-server: $*" >&2; exit 1; }
usage() { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
[ "$1" != stop ] || [ -d "$2/registry" ] || exit 0
mkdir -p "$2/registry"; dir=$(cd "$2/registry" && pwd); conf=$dir/config.yml

install_missing() { # tool:package ...
  local need=() t
  for t; do command -v "${t%%:*}" >/dev/null || need+=("${t##*:}"); done
  [ ${#need[@]} -gt 0 ] || return 0
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # RUNLEVEL=1: no service of the package is started
  local get=(apt-get -qq -o DPkg::Lock::Timeout=300) put=(install -y --no-install-recommends "${need[@]}")
  "${get[@]}" "${put[@]}" >"$dir/apt.log" 2>&1 || { "${get[@]}" update && "${get[@]}" "${put[@]}"; } >>"$dir/apt.log" 2>&1 ||
    die "cannot install ${need[*]}: $(tail -n 1 "$dir/apt.log")"
}
born() { awk '$3 != "Z" { print $22 }' "/proc/$1/stat" 2>/dev/null; } # start time: with the pid, it names one process for ever
ours() { # the pid of the registry if that very process still runs
  local pid start; read -r pid start 2>/dev/null <"$dir/pid" && [ -n "$start" ] && [ "$(born "$pid")" = "$start" ] && echo "$pid"
}
in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() { local p=$((20000 + RANDOM % 12000)); while in_use $p; do p=$((p + 1)); done; echo $p; }
launch() { # starts the server and waits until it answers
  local end=$((SECONDS + 60))
  setsid docker-registry serve "$conf" >>"$dir/log" 2>&1 </dev/null & echo "$! $(born $!)" >"$dir/pid"
  trap '[ $? = 0 ] || halt' EXIT; trap 'exit 1' INT TERM
  until curl -s --noproxy '*' -o /dev/null -m 5 "http://127.0.0.1:$(cat "$dir/port")/v2/"; do
    [ -n "$(ours)" ] || die "the registry ended: $(tail -n 1 "$dir/log")"
    [ $SECONDS -lt $end ] || die "not ready after 60 s, see $dir/log"
    sleep 0.1
  done
}
halt() {
  local pid i
  pid=$(ours) && kill "$pid" && for ((i = 0; i < 100; i++)); do [ -n "$(ours)" ] || break; sleep 0.1; done
  [ -z "$(ours)" ] || kill -9 "$pid" || true
  rm -f "$dir/pid"
}
case $1 in
start)
  port=${3-} user=${4-} password=${5-} auth=
  [[ $port =~ ^[0-9]+$ ]] && { [ -z "$user" ] || [ -n "$password" ]; } || usage
  [ -z "$(ours)" ] || die "already running on $2"
  install_missing docker-registry:docker-registry curl:curl ${user:+htpasswd:apache2-utils}
  [ "$port" != 0 ] || port=$(free_port); ! in_use "$port" || die "port $port is taken"
  if [ -n "$user" ]; then # bcrypt is all it takes; cost 4, since it is computed again for every request
    htpasswd -nbB -C 4 "$user" "$password" >"$dir/htpasswd"
    auth="auth: { htpasswd: { realm: test, path: '$dir/htpasswd' } }"
  fi
  # the fixed secret signs upload addresses, so that an upload can go on after a restart
  printf '%s\n' 'version: 0.1' 'log: { level: info }' "$auth" "http: { addr: '127.0.0.1:$port', secret: test }" \
    "storage: { filesystem: { rootdirectory: '$dir/data' }, delete: { enabled: true }, maintenance: { uploadpurging: { enabled: false } } }" >"$conf"
  mkdir -p "$dir/data"; echo "$port" >"$dir/port"; launch
  printf '{"endpoint":"http://127.0.0.1:%s","host":"127.0.0.1:%s","user":"%s","password":"%s","pid":%s}\n' "$port" "$port" "$user" "$password" "$(ours)" ;;
stop) halt ;;
gc) # with the server down: a blob pushed during the sweep would be lost, and a running server remembers what is gone
  was=$(ours || true); halt
  docker-registry garbage-collect $([ "${3-}" != dry-run ] || echo --dry-run) $([ "${3-}" != untagged ] || echo --delete-untagged) "$conf" >&2
  [ -z "$was" ] || launch ;;
*) usage ;;
esac
