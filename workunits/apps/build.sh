#!/usr/bin/env bash
# Rebuilds the committed .wasm files of the C, C++ and Rust programs, the same bytes on
# every machine with Debian 12's clang 14, lld 14, wasi-libc and rustc:
#
#   apt-get install clang lld wasi-libc libclang-rt-dev-wasm32 libc++-14-dev-wasm32 libc++abi-14-dev-wasm32 rustc libstd-rust-dev-wasm32
#
# With a directory as its argument it writes there instead of beside the source.
# `sha256sum -c SHA256SUMS` in this folder tells whether the bytes are the
# committed ones; a build in place renews that list.
set -euo pipefail
export LC_ALL=C TZ=UTC
unset CPATH C_INCLUDE_PATH LIBRARY_PATH SOURCE_DATE_EPOCH CCC_OVERRIDE_OPTIONS

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here}
clang=${CLANG:-clang-14}
want='Debian clang version 14.0.6'

if ! command -v "$clang" >/dev/null || ! command -v wasm-ld-14 >/dev/null; then
	echo "build.sh: $clang or wasm-ld-14 is missing; on Debian 12: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32" >&2
	exit 1
fi
if [ ! -e /usr/lib/wasm32-wasi/libc++.a ] || [ ! -e /usr/lib/wasm32-wasi/libc++abi.a ]; then
	echo 'build.sh: the C++ library is missing; on Debian 12: apt-get install libc++-14-dev-wasm32 libc++abi-14-dev-wasm32' >&2
	exit 1
fi
if [ "$(/usr/bin/rustc --version)" != 'rustc 1.63.0' ] || [ ! -d /usr/lib/rustlib/wasm32-wasi ]; then
	echo 'build.sh: rustc 1.63.0 with wasm32-wasi is missing; on Debian 12: apt-get install rustc libstd-rust-dev-wasm32' >&2
	exit 1
fi
have=$("$clang" --version | head -n1)
libc=$(dpkg-query -W -f '${Version}' wasi-libc 2>/dev/null || echo unknown)
echo "$have, wasi-libc $libc"
if [ "$have" != "$want" ]; then
	echo "build.sh: the committed bytes are made by $want; this one may make others" >&2
fi

# No names, paths, compiler version or time enters the output: the compiler runs
# in the source's folder, on relative names, and the linker strips every custom
# section. Floating point is never contracted or reordered. A stack that
# overflows traps at address 0 instead of running into data.
flags=(
	--target=wasm32-wasi -mcpu=mvp -O3
	-ffp-contract=off -fno-fast-math -fno-ident -g0
	-Wall -Wextra -Werror
	-fuse-ld="$(command -v wasm-ld-14)"
	-Wl,--strip-all -Wl,--stack-first -Wl,-z,stack-size=262144
)

build() { # NAME FOLDER [FLAG]...
	local name=$1 folder=$2
	shift 2
	mkdir -p "$out/$folder"
	(cd "$here/$folder" && "$clang" "${flags[@]}" -std=c17 "$@" -o "$tmp/$name.wasm" "$name.c")
	chmod 644 "$tmp/$name.wasm"
	mv "$tmp/$name.wasm" "$out/$folder/$name.wasm"
	made+=("$folder/$name.wasm")
}

build_cpp() { # NAME FOLDER
	local name=$1 folder=$2
	mkdir -p "$out/$folder"
	(cd "$here/$folder" && "${clang/clang/clang++}" "${flags[@]}" -std=c++17 -Os -fno-exceptions -o "$tmp/$name.wasm" "$name.cc")
	chmod 644 "$tmp/$name.wasm"
	mv "$tmp/$name.wasm" "$out/$folder/$name.wasm"
	made+=("$folder/$name.wasm")
}

# Debian's, whatever else is installed. The standard library's own paths are the
# package's.
build_rust() { # NAME FOLDER
	local name=$1 folder=$2
	mkdir -p "$out/$folder"
	(cd "$here/$folder" && /usr/bin/rustc --edition=2021 --target=wasm32-wasi -D warnings \
		-C opt-level=s -C codegen-units=1 -C panic=abort -C link-arg=--strip-all -o "$tmp/$name.wasm" "$name.rs")
	chmod 644 "$tmp/$name.wasm"
	mv "$tmp/$name.wasm" "$out/$folder/$name.wasm"
	made+=("$folder/$name.wasm")
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
made=()
build lj lj
build best best
for kernel in align matmul nbody pi sha256 sieve sort words; do
	build "$kernel" kernels -msimd128
done
build c probe -D_GNU_SOURCE -Wno-infinite-recursion -lc-printscan-long-double
build_cpp cpp probe
build_rust rust probe
(cd "$out" && sha256sum "${made[@]}") | tee "$tmp/sums"
if [ "$out" = "$here" ]; then
	mv "$tmp/sums" "$here/SHA256SUMS"
fi
