#!/bin/sh
# Checks what is in docker/ with the tools of those who read it, as far as this machine has them (scripts/setup.sh gets them). A tool that is absent is
# named, and what it would have checked is not; anything that a tool finds fails.
set -u
cd "$(dirname "$0")/.." || exit 1

case $(uname -s) in
Darwin) tools=$HOME/Library/Caches/outboxd ;;
*) tools=${XDG_CACHE_HOME:-$HOME/.cache}/outboxd ;;
esac
PATH=$PATH:$tools/hadolint/bin:$tools/kubernetes-validate/bin
failed=

# with TOOL WHAT COMMAND...: runs the command where the tool is there.
with() {
	tool=$1 what=$2
	shift 2
	if ! command -v "$tool" >/dev/null 2>&1; then
		echo "lint: $what: not checked, $tool is not here"
		return
	fi
	if output=$("$@" 2>&1); then
		echo "lint: $what: fine ($tool)"
	else
		echo "$output" >&2
		echo "lint: $what: see above ($tool)" >&2
		failed=yes
	fi
}

kubernetes() { PYTHONPATH="$tools/kubernetes-validate${PYTHONPATH:+:$PYTHONPATH}" kubernetes-validate --strict --quiet docker/kubernetes/outboxd.yaml docker/kubernetes/secret.example.yaml; }

# The unit names a binary that is not installed here; everything else of it is checked.
unit() {
	folder=$(mktemp -d) || return
	sed 's#^ExecStart=/usr/local/bin/outboxd#ExecStart=/bin/true#' docker/systemd/outboxd.service >"$folder/outboxd.service"
	systemd-analyze verify "$folder/outboxd.service" && systemd-analyze security --offline=yes --threshold=20 "$folder/outboxd.service"
	status=$?
	rm -r "$folder"
	return "$status"
}

with promtool "alerts" promtool check rules docker/prometheus/rules.yaml
with promtool "tests of the alerts" promtool test rules docker/prometheus/rules_test.yaml
with promtool "configuration of Prometheus" promtool check config docker/prometheus/prometheus.yml
with hadolint "Dockerfile" hadolint docker/Dockerfile
with shellcheck "shell scripts" shellcheck docker/*.sh scripts/*.sh .ci/run
with kubernetes-validate "Kubernetes manifests" kubernetes
with systemd-analyze "systemd unit" unit
[ -z "$failed" ]
