#!/bin/sh
# Puts a version of outboxd into service on this machine: see usage below.
set -eu

usage() {
	cat <<'USAGE'
deploy.sh --binary FILE --config FILE (--systemd UNIT | --process FOLDER) [options] [STEP...]

Puts a version of outboxd into service, step by step; without a STEP all of them:
  check      the settings are right (outboxd config)
  migrate    outboxd's own tables are brought up to this version, the outbox table is made where it is absent
  indexes    the outbox table has an index that begins with the id, and none that is invalid (needs psql and DATABASE_URL)
  validate   nothing is left to migrate, and outboxd doctor finds no error
  start      the binary is installed, the one before is kept beside it as outboxd.previous, and the service is started anew
  verify     the instance is ready (streams or stands by) within the time, and /status is of this version
When start or verify fails, the version before is put back and started. Migrations are not undone: a version before that knows
less than the database has refuses to start, and says so. So deploy one instance after the other; the last step of each waits for it.

  --binary FILE     the version to put into service
  --config FILE     its settings; variables of the environment count as well
  --env-file FILE   more variables, those that EnvironmentFile of the unit names
  --systemd UNIT    the service is this unit; the binary goes to /usr/local/bin/outboxd
  --process FOLDER  the service is a process of its own; FOLDER has its binary, outboxd.pid and outboxd.log
  --install FILE    where the binary goes instead
  --timeout N       seconds that verify waits (60)
  --url URL         where the instance answers (http://127.0.0.1:9090)
Exit codes: 0 fine, 1 failure (rolled back, where something was started), 2 wrong usage.
USAGE
}

wrong() {
	echo "deploy: $*; see deploy.sh --help" >&2
	exit 2
}

say() { echo "deploy: $*"; }

fail() {
	echo "deploy: $*" >&2
	return 1
}

binary='' config='' variables='' unit='' folder='' install='' timeout=60 url=http://127.0.0.1:9090 steps=''
while [ $# -gt 0 ]; do
	case $1 in
	--help | -h)
		usage
		exit 0
		;;
	--binary | --config | --env-file | --systemd | --process | --install | --timeout | --url)
		[ $# -ge 2 ] || wrong "$1 needs a value"
		case $1 in
		--binary) binary=$2 ;;
		--config) config=$2 ;;
		--env-file) variables=$2 ;;
		--systemd) unit=$2 ;;
		--process) folder=$2 ;;
		--install) install=$2 ;;
		--timeout) timeout=$2 ;;
		--url) url=$2 ;;
		esac
		shift 2
		;;
	check | migrate | indexes | validate | start | verify)
		steps="$steps $1"
		shift
		;;
	*) wrong "unknown: $1" ;;
	esac
done
[ -x "$binary" ] || wrong "--binary '$binary' is no program"
[ -r "$config" ] || wrong "--config '$config' cannot be read"
[ -z "$variables" ] || [ -r "$variables" ] || wrong "--env-file '$variables' cannot be read"
[ -n "$unit" ] && [ -n "$folder" ] && wrong "--systemd and --process exclude each other"
if [ -n "$unit" ]; then
	install=${install:-/usr/local/bin/outboxd}
elif [ -d "$folder" ]; then
	install=${install:-$folder/outboxd}
else
	wrong "one of --systemd UNIT and --process FOLDER is needed, and the folder must be there"
fi
case $timeout in '' | *[!0-9]*) wrong "--timeout '$timeout' is no number of seconds" ;; esac

# with PROGRAM COMMAND...: runs it with the settings. The caller must be able to read the files that they name: root, or the unit's user.
with() { "$@" --config "$config" ${variables:+--env-file "$variables"}; }

outboxd() { with "$binary" "$@"; }

check() { outboxd config >/dev/null; }

migrate() { outboxd migrate up; }

indexes() {
	if [ -z "${DATABASE_URL:-}" ] || ! command -v psql >/dev/null 2>&1; then
		say "indexes: not checked, this needs psql and DATABASE_URL"
		return
	fi
	address=$(echo "$DATABASE_URL" | sed 's/^postgres\(ql\)\{0,1\}+asyncpg:/postgresql:/')
	setting() { outboxd config | sed -n "s/^ *$1: *\([^ ]*\).*/\1/p" | head -n 1; }
	table=$(setting table)
	id=$(outboxd config | sed -n '/^  columns:/,$ s/^ *id: *\([^ ]*\).*/\1/p' | head -n 1)
	found=$(psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --set=t="$table" --set=id="$id" "$address" <<'SQL'
SELECT 'index ' || indexrelid::regclass || ' is invalid: REINDEX INDEX CONCURRENTLY ' || indexrelid::regclass
  FROM pg_index WHERE indrelid = :'t'::regclass AND NOT indisvalid;
SELECT 'no index of ' || :'t' || ' begins with ' || :'id' || ': CREATE INDEX CONCURRENTLY ON ' || :'t' || ' (' || quote_ident(:'id') || ')'
 WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                    WHERE i.indrelid = :'t'::regclass AND i.indisvalid AND a.attname = :'id');
SQL
	) || return
	[ -z "$found" ] || fail "$found"
}

validate() {
	outboxd migrate status --output json | tr -d ' \n' | grep -q '"pending":\[\]' ||
		fail "validate: steps are pending, see outboxd migrate status" || return
	outboxd doctor
}

running() { [ -s "$folder/outboxd.pid" ] && kill -0 "$(cat "$folder/outboxd.pid")" 2>/dev/null; }

# stop ends the process and waits for it; shutdown_timeout bounds that, and a minute does where it is longer.
stop() {
	if [ -n "$unit" ]; then
		systemctl stop "$unit"
		return
	fi
	running || return 0
	kill "$(cat "$folder/outboxd.pid")"
	waited=0
	while running; do
		[ "$waited" -lt 60 ] || fail "stop: the process $(cat "$folder/outboxd.pid") does not end" || return
		sleep 1
		waited=$((waited + 1))
	done
	rm -f "$folder/outboxd.pid"
}

launch() {
	if [ -n "$unit" ]; then
		systemctl restart "$unit"
		return
	fi
	stop || return
	nohup "$install" run --config "$config" ${variables:+--env-file "$variables"} >>"$folder/outboxd.log" 2>&1 </dev/null &
	echo $! >"$folder/outboxd.pid"
}

# put copies the binary beside its place and renames it: at no time is there half a binary.
put() { cp -L "$1" "$install.new" && chmod 755 "$install.new" && mv -f "$install.new" "$install"; }

start() {
	rm -f "$install.previous"
	if [ -e "$install" ]; then
		cp -p "$install" "$install.previous" || return
	fi
	put "$binary" && launch
}

# ready waits until the installed binary finds the instance ready.
ready() {
	waited=0
	until reason=$(with "$install" healthcheck --ready 2>&1); do
		if [ -n "$folder" ] && ! running; then
			tail -n 5 "$folder/outboxd.log" >&2
			fail "verify: the process has ended, see $folder/outboxd.log" || return
		fi
		[ "$waited" -lt "$timeout" ] || fail "verify: not ready after $timeout s: $reason" || return
		sleep 1
		waited=$((waited + 1))
	done
}

verify() {
	ready || return
	if ! command -v curl >/dev/null 2>&1; then
		say "verify: ready; /status is not looked at, this needs curl"
		return
	fi
	version=$("$install" version --output json | sed -n 's/.*"version": "\([^"]*\)".*/\1/p')
	status=$(curl --silent --show-error --max-time 10 "$url/status" | tr -d ' \n') || return
	case $status in
	*"\"version\":\"$version\""*) ;;
	*) fail "verify: $url/status is not of version $version: $status" || return ;;
	esac
	say "verify: $version is $(echo "$status" | sed -n 's/.*"state":"\([a-z]*\)".*/\1/p')"
}

# put_back starts the version before; where there was none, nothing is left running.
put_back() {
	if [ ! -e "$install.previous" ]; then
		say "rolling back: there was no version before; stopping this one"
		stop
		rm -f "$install"
		return
	fi
	say "rolling back to the version before"
	put "$install.previous" && launch && ready && say "the version before is ready again"
}

started=
for step in ${steps:-check migrate indexes validate start verify}; do
	say "$step"
	[ "$step" != start ] || started=yes
	if ! "$step"; then
		echo "deploy: $step failed" >&2
		if [ -n "$started" ]; then
			put_back || echo "deploy: rolling back failed: nothing may be running, start it by hand" >&2
		fi
		exit 1
	fi
done
say "done"
