#!/bin/sh
# Looks for known vulnerabilities in what the program calls. Where their database cannot be reached it says so and succeeds: a machine without that way
# out must not fail for it. Any other failure is one.
set -u
cd "$(dirname "$0")/.." || exit
report=$(go run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./... 2>&1) && status=0 || status=$?
printf '%s\n' "$report"
case $status,$report in
0,*) ;;
*"fetching vulnerabilities: "*) echo "vuln: NOT CHECKED: the database of vulnerabilities cannot be reached from this machine (above)" ;;
*) exit 1 ;;
esac
