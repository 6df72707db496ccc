#!/bin/sh
# Shows that the torture can fail: each patch of internal/torture/testdata switches one protection off in a copy of this tree, and the storm has to
# find what that breaks. FOR=90s is the length of each storm, SEEDS="1 2 3" how often it is tried with other faults before it counts as not caught,
# ONLY=NAME runs one patch, SINK=redis|pulsar is where the events go. A patch's first line names the faults for each sink that it concerns.
set -eu
sink=${SINK:-redis}
case $sink in
redis | pulsar) ;;
*) echo "make torture-proof: SINK=$sink: choose redis or pulsar" >&2 && exit 2 ;;
esac
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
missed=0
for patch in internal/torture/testdata/${ONLY:-*}.patch; do
	name=$(basename "$patch" .patch)
	[ -e "$patch" ] || {
		echo "make torture-proof: ONLY=$name names no patch; there are" "$(cd internal/torture/testdata && echo *.patch | sed 's/\.patch//g')" >&2
		exit 2
	}
	faults=$(sed -n "1s/.* $sink: \\([^;]*\\).*/\\1/p" "$patch")
	[ -n "$faults" ] || {
		printf '%-28s %s\n' "$name" "does not concern $sink"
		continue
	}
	rm -rf "$copy/tree"
	mkdir "$copy/tree"
	git ls-files -z | tar --null -T - -cf - | tar -C "$copy/tree" -xf -
	patch -s -p1 -d "$copy/tree" <"$patch"
	found=
	for seed in ${SEEDS:-1 2 3}; do
		(cd "$copy/tree" && ${GO:-go} test ./internal/torture -count=1 -timeout 0 -run TestStorm -torture.for "${FOR:-90s}" -torture.seed "$seed" \
			-torture.sink "$sink" -torture.faults "$faults" -torture.dir "$copy/$name-$seed") >"$copy/$name.log" 2>&1 || true
		verdict=$(sed -n 's/^sink.*faults in/faults in/;s/.*committed, .*received, .*rolled back: //p' "$copy/$name-$seed/report.txt" 2>/dev/null | head -1)
		case "$(sed -n '/^FAILED$/p;/^PASSED$/p' "$copy/$name-$seed/report.txt" 2>/dev/null)" in
		FAILED) found="seed $seed: $verdict" && break ;;
		PASSED) ;;
		*) tail -n 30 "$copy/$name.log" && exit 1 ;;
		esac
	done
	printf '%-28s %s\n' "$name" "${found:-NOT CAUGHT}"
	[ -n "$found" ] || missed=1
done
exit $missed
