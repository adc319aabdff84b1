#!/bin/sh
# Builds the plug-in, and the stand-in for the libraries of CANN that tests run it on.
#
#   build.sh OUT                     OUT/libpercept_ascend.so
#   build.sh OUT fake                that, and OUT/fake/lib{ascendcl,nnopbase,opapi}.so
#   build.sh OUT breaks              those, and OUT/breaks, which breaks rules of the stand-in
#   build.sh OUT check               those, and every rule is broken once: fails where the stand-in does not tell
#   build.sh OUT headers DIRECTORY   what is declared here is held to DIRECTORY/acl/acl.h, and the plug-in built on it
#
# CC is the compiler (cc), CFLAGS are flags of one's own.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?the directory to build in}
what=${2:-plugin}
cc=${CC:-cc}
strict="-std=c11 -O2 -fPIC -Wall -Wextra -Wpedantic -Werror ${CFLAGS:-}"
mkdir -p "$out"

plugin() {
    # Beside its target and then in its place, so that a build beside it never sees half a file.
    "$cc" $strict -D_POSIX_C_SOURCE=200809L -fvisibility=hidden -shared "$@" "$here"/*.c -o "$out/plugin.$$" -ldl -lpthread
    mv "$out/plugin.$$" "$out/libpercept_ascend.so"
}

stand_in() {
    name=$1
    shift
    "$cc" -std=gnu11 -O2 -fPIC -Wall -Wextra -Werror ${CFLAGS:-} -shared "$@" -o "$out/fake/$name.$$" -L"$out/fake" \
        -Wl,-rpath,"\$ORIGIN" -Wl,-soname,"$name" $libraries -lm -lpthread
    mv "$out/fake/$name.$$" "$out/fake/$name"
}

fake() {
    mkdir -p "$out/fake"
    libraries=
    stand_in libascendcl.so "$here/fake/runtime.c"
    libraries="-lascendcl"
    stand_in libnnopbase.so "$here/fake/objects.c"
    libraries="-lnnopbase -lascendcl"
    stand_in libopapi.so "$here/fake/operations.c" "$here/fake/values.c" "$here/fake/checks.c" "$here/fake/elementwise.c" \
        "$here/fake/moving.c" "$here/fake/reducing.c" "$here/fake/network.c" "$here/fake/attention.c"
}

check() {
    missed=0
    caught=0
    "$out/breaks" >"$out/breaks.list"
    while read -r name says; do
        # It ends by a signal where a rule is broken, as it should, of which the shell between is not to speak.
        said=$(sh -c '"$0" "$1" 2>&1; :' "$out/breaks" "$name" 2>/dev/null)
        case $said in
        *"$says"*) caught=$((caught + 1)) ;;
        *)
            missed=$((missed + 1))
            echo "build.sh: '$name' is to say '$says', and says: $said" >&2
            ;;
        esac
    done <"$out/breaks.list"
    echo "$caught of $((caught + missed)) say what they are to say"
    [ "$missed" = 0 ]
}

case $what in
plugin)
    plugin
    ;;
fake)
    plugin
    fake
    ;;
breaks | check)
    plugin
    fake
    "$cc" -std=gnu11 -O1 -Wall -Wextra -Werror ${CFLAGS:-} "$here/fake/breaks.c" -o "$out/breaks" -L"$out/fake" \
        -Wl,-rpath,"\$ORIGIN/fake" -lopapi -lnnopbase -lascendcl
    [ "$what" = breaks ] || check
    ;;
headers)
    include=${3:?the directory that holds acl/acl.h}
    "$cc" $strict -isystem "$include" -c "$here/headers/agree.c" -o "$out/agree.o"
    plugin -DASCEND_REAL_HEADERS -isystem "$include"
    ;;
*)
    echo "build.sh: '$what' is none of plugin, fake, breaks, check, headers" >&2
    exit 2
    ;;
esac
