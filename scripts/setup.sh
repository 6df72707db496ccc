#!/usr/bin/env bash
# Installs what the tests need and the machine lacks, by the machine's own package manager: PostgreSQL, Redis, and Java and Maven for
# Pulsar. It prints what it does, and what it could not get and why; a test that then cannot run says so by name.
set -uo pipefail

missing=()

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# as_root runs a command as root, without asking for a password.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

updated=
install_packages() { # apt packages, then the same for dnf and brew in the variables
	local what=$1 apt=$2 dnf=$3 brew=$4
	if have brew && [ -n "$brew" ]; then
		echo "setup: installing $what: brew install $brew"
		# shellcheck disable=SC2086 # a list of packages
		brew install -q $brew || missing+=("$what: brew install $brew failed")
		return
	fi
	if ! may_install; then
		missing+=("$what: not root, and sudo asks for a password")
		return
	fi
	if have apt-get; then
		if [ -z "$updated" ]; then
			echo "setup: apt-get update"
			as_root apt-get update -qq || echo "setup: apt-get update failed; trying with the old lists"
			updated=1
		fi
		echo "setup: installing $what: apt-get install $apt"
		# shellcheck disable=SC2086 # a list of packages
		as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $apt >/dev/null ||
			missing+=("$what: apt-get install $apt failed")
	elif have dnf; then
		echo "setup: installing $what: dnf install $dnf"
		# shellcheck disable=SC2086 # a list of packages
		as_root dnf install -y -q $dnf || missing+=("$what: dnf install $dnf failed")
	else
		missing+=("$what: no package manager that this script knows")
	fi
}

if ! have go; then
	echo "setup: Go is missing: install Go 1.26 or later"
	exit 1
fi
have gcc || have clang || install_packages "a C compiler (for the race detector)" "gcc libc6-dev" gcc ""
have_postgres || install_packages PostgreSQL postgresql postgresql-server postgresql
have redis-server || install_packages Redis redis-server redis redis
have java || install_packages "Java (for Pulsar)" openjdk-17-jre-headless java-17-openjdk-headless openjdk@17
have mvn || install_packages "Maven (for Pulsar)" maven maven maven

for what in "${missing[@]+"${missing[@]}"}"; do
	echo "setup: could not get $what"
done
exit 0
