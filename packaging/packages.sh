# Sourced by packaging/quickstart and tests/run: Debian packages, only those that are missing.
# shellcheck shell=bash disable=SC2034

# What a build of trimtab needs.
build_packages=(gcc libc6-dev meson ninja-build pkg-config libsystemd-dev libinih-dev libjson-c-dev)

# What the example application under gunicorn needs.
example_packages=(python3 gunicorn python3-flask python3-numpy)

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "needs root for: $*; run this as root, or install sudo" >&2
		return 1
	fi
}

# need_packages PACKAGE...: installs those that are not there, after saying which. No apt call,
# and no root, when nothing is missing.
need_packages() {
	local package missing=()
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing Debian packages: ${missing[*]}"
	if ! command -v apt-get >/dev/null; then
		echo "there is no apt-get here; install the like of these and run again" >&2
		return 1
	fi
	local log
	log=$(mktemp)
	# Lists may be missing or stale on a fresh machine; where an update fails, an install from
	# what is cached may still succeed.
	if ! {
		as_root apt-get -qq update || true
		as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
			-o Dpkg::Use-Pty=0 install "${missing[@]}"
	} >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		echo "could not install: ${missing[*]}" >&2
		return 1
	fi
	rm -f "$log"
}

# own_like SOURCE DIRECTORY: what root built in somebody's checkout stays theirs to rebuild.
own_like() {
	[ "$(id -u)" -ne 0 ] || chown -R --reference="$1" "$2"
}
