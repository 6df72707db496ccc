#!/bin/sh
# Lets outboxd and what others use instead deliver the same backlogs, and writes tables and charts into docs/benchmarks.md.
#   ROWS=300000     rows of each backlog
#   SINKS='redis pulsar'
#   SIZES='1 10 1000'   rows in a transaction
#   SCENARIOS='1000 5000 10000'   loads of existing deployments, in events a second
#   SPILLED=1000000     rows of the backlog that is parked in an outage
#   GROWTH=yes      also how the cost grows with destinations, tenants, keys, transactions, payloads, keys that wait, shards and old rows; "no" leaves it out
#   WAITING='0 1000 10000 100000 1000000'   keys that wait
#   SHARDS='1 2 4'                          shards that share the table out by key
#   TABLE='0 100000 1000000 4000000'        old rows in the table; each takes 1 kB on the disk, and as much of log up to 16 GB
#   DEBEZIUM=DIR    folder of Debezium Server; "no" leaves it out; without it Maven fetches it
#   RESULTS=DIR     where the results are kept
# Debezium Server needs Java 21 or later: that of JAVA_HOME, else the newest in /usr/lib/jvm.
set -eu
cd "$(dirname "$0")/.."
ROWS=${ROWS:-300000} SINKS=${SINKS:-redis pulsar} SIZES=${SIZES:-1 10 1000} DEBEZIUM=${DEBEZIUM:-} RESULTS=${RESULTS:-bench-results} GROWTH=${GROWTH:-yes}
SCENARIOS=${SCENARIOS-1000 5000 10000} SPILLED=${SPILLED:-1000000} WAITING=${WAITING:-0 1000 10000 100000 1000000} SHARDS=${SHARDS:-1 2 4} TABLE=${TABLE:-0 100000 1000000 4000000}
debezium_version=3.6.0.Final
note=

# fetch_debezium leaves the folder in DEBEZIUM, or "no".
fetch_debezium() {
	folder=${XDG_CACHE_HOME:-$HOME/.cache}/outboxd/debezium-server-$debezium_version
	if [ ! -e "$folder/done" ]; then
		echo "bench: fetching Debezium Server $debezium_version (780 MB)"
		if ! mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:2.8:get -Dtransitive=false \
			-Dartifact=io.debezium:debezium-server-dist:$debezium_version:tar.gz; then
			DEBEZIUM=no note='Debezium Server is missing: it could not be fetched.'
			return
		fi
		mkdir -p "$folder"
		tar xzf "$HOME/.m2/repository/io/debezium/debezium-server-dist/$debezium_version/debezium-server-dist-$debezium_version.tar.gz" -C "$folder"
		touch "$folder/done"
	fi
	DEBEZIUM=$folder/debezium-server
}

# find_java leaves a Java that Debezium Server runs on in JAVA_HOME.
find_java() {
	for home in "${JAVA_HOME:-}" /usr/lib/jvm/*; do
		[ -x "$home/bin/java" ] || continue
		major=$("$home/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
		if [ "${major:-0}" -ge 21 ]; then
			export JAVA_HOME="$home"
			return
		fi
	done
	DEBEZIUM=no note='Debezium Server is missing: it needs Java 21 or later, and there is none.'
}

[ "$DEBEZIUM" = no ] && note='Debezium Server was left out.'
[ -n "$DEBEZIUM" ] || fetch_debezium
[ "$DEBEZIUM" = no ] || find_java
rivals=pg_recvlogical
[ "$DEBEZIUM" = no ] || rivals=$rivals,debezium,debezium-128m

mkdir -p "$RESULTS"
rm -rf "$RESULTS"/*.json "$RESULTS/growth"

# measure NAME FLAG... keeps the result of one bench.
measure() {
	name=$1
	shift
	echo "bench: $name"
	bin/outboxd bench --output json "$@" >"$RESULTS/$name.json.part"
	mv "$RESULTS/$name.json.part" "$RESULTS/$name.json"
}

for sink in $SINKS; do
	for size in $SIZES; do
		against=$rivals
		[ "$sink" = redis ] && against=$against,polling
		[ "$DEBEZIUM" = no ] || set -- --debezium "$DEBEZIUM"
		measure "$sink-keep-$size" --sink "$sink" --rows "$ROWS" --transaction "$size" --against "$against" "$@"
		set --
	done
	measure "$sink-mark-lean" --sink "$sink" --rows "$ROWS" --on-sent mark --against update
	measure "$sink-mark-full" --sink "$sink" --rows "$ROWS" --on-sent mark --indexes full --against update
	measure "$sink-delete" --sink "$sink" --rows "$ROWS" --on-sent delete
	racers=direct
	if [ "$DEBEZIUM" != no ]; then
		racers=direct,debezium
		set -- --debezium "$DEBEZIUM"
	fi
	measure "$sink-rate" --sink "$sink" --rate 1000 --for 30s --transaction 1 --against "$racers" "$@"
	set --
	measure "$sink-spilled" --sink "$sink" --rows "$SPILLED" --on-sent mark --spilled
	measure "$sink-failing" --sink "$sink" --rate 1000 --for 30s --transaction 1 --tenants 100 --failing 1
	for n in $SCENARIOS; do
		measure "$sink-scenario-$n" --sink "$sink" --scenario "$n" --for 30s --on-sent mark
	done
done
# grow AXIS VALUE FLAG... keeps a result of the axis.
grow() {
	axis=$1 value=$2
	shift 2
	mkdir -p "$RESULTS/growth/$axis"
	measure "growth/$axis/$value" "$@"
}

if [ "$GROWTH" = yes ]; then
	for n in 1 10 100; do
		grow tenants $n --rows "$ROWS" --tenants $n
	done
	for shape in '1 1' '1 10' '10 10' '100 10' '100 100'; do
		tenants=${shape% *} topics=${shape#* }
		grow destinations $((tenants * topics)) --rows "$ROWS" --tenants "$tenants" --topics "$topics"
	done
	for n in 1 10 1000 "$ROWS"; do
		grow keys "$n" --rows "$ROWS" --keys "$n"
	done
	for n in 1 10 100 1000 10000 "$ROWS"; do
		grow transaction "$n" --rows "$ROWS" --transaction "$n"
	done
	for n in 100 1000 10000 100000 1000000; do
		rows=$((500000000 / n))
		[ "$rows" -le "$ROWS" ] || rows=$ROWS
		grow payload $n --rows "$rows" --payload $n
	done
	for n in $WAITING; do
		grow waiting "$n" --rows "$ROWS" --waiting "$n"
	done
	for n in $SHARDS; do
		grow shards "$n" --rows "$ROWS" --shards "$n"
	done
	for n in $TABLE; do
		grow table "$n" --rows "$ROWS" --on-sent mark --table "$n"
	done
fi
${GO:-go} run ./internal/bench/report -results "$RESULTS" -document docs/benchmarks.md -note "$note"
