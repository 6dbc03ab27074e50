# The guest's half of shell.py, typed into its shell line by line; comments are not typed. Lines stay short.
# $1 is always the nonce. Files in $_b: c command, o and e its output and error, s its status, i input.
set +o emacs; set +o vi; PS1=; PS2=; cd /
for _b in /run /dev/shm /tmp; do
_b=$_b/bootc-build-shell.$$; mkdir -p -m 700 $_b 2>/dev/null && [ -w $_b ] && break
done
: >$_b/o; : >$_b/e
_bs=sh; command -v bash >/dev/null && _bs=bash
# SHA-256 and size of file $1.
_b_z() {
if [ -s $_b/$1 ]; then set -- $(cd $_b; sha256sum $1; wc -c $1); echo $1:$3; else echo -:0; fi
}
# The header.
_b_h() {
printf '\n@%s:h:%s:%s:%s:h@\n' $1 "$(cat $_b/s 2>/dev/null)" $(_b_z o) $(_b_z e)
}
# Of file $2, the lines that sed's $3 selects.
_b_d() {
[ -s $_b/$2 ] && base64 -w 896 $_b/$2 | nl -ba -w1 -s@$1:$2: | sed -n "$3"
}
_b_end() { printf '\n@%s:end@\n' $1; }
# Selected lines again.
_b_l() { _b_d $1 $2 $3; _b_end $1; }
# The whole answer.
_b_a() { _b_h $1; _b_d $1 o p; _b_d $1 e p; _b_end $1; }
# Run the command in $_bc. An echo later on means that this shell is gone (shell.py), so none may stay switched on.
_b_x() {
rm -f $_b/s; printf %s "$_bc" | base64 -d >$_b/c
$_bs $_b/c >$_b/o 2>$_b/e </dev/null; echo $? >$_b/s
stty -echo -ixon 2>/dev/null; _b_a $1
}
# Take $2 lines from the host.
_b_w() { head -n $2 >>$_b/i; printf '\n@%s:got@\n' $1; }
