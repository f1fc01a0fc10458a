# Flattens JSON (RFC 8259): one line per scalar, path parts joined by "/", a tab, the value with control characters as
# spaces. Leaves with status 1 on anything that is not JSON.
{ text = text $0 "\n" }
END {
    length_all = length(text); pos = 1
    value("")
    skip()
    if (pos <= length_all) fail()
}
function fail() { exit 1 }
function peek() { return substr(text, pos, 1) }
function skip() { while (pos <= length_all && index(" \t\r\n", peek())) pos++ }
function expect(c) { skip(); if (peek() != c) fail(); pos++ }
function join(path, part) { return path == "" ? part : path "/" part }

function utf8(code) {
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
}
function hex(digits,    i, n, d) {
    for (i = 1; i <= 4; i++) {
        d = index("0123456789abcdef", tolower(substr(digits, i, 1)))
        if (!d || i > length(digits)) fail()
        n = n * 16 + d - 1
    }
    return n
}
function string(    out, run, c) {
    expect("\"")
    while (1) {
        if (match(substr(text, pos, 4096), /^[^"\\]+/)) { out = out substr(text, pos, RLENGTH); pos += RLENGTH; continue }
        c = peek(); pos++
        if (c == "\"") return out
        if (c != "\\") fail()
        c = peek(); pos++
        if (c == "u") { out = out utf8(hex(substr(text, pos, 4))); pos += 4 }
        else if (index("nrtbf", c) && c != "") out = out " "
        else if (c == "\"" || c == "\\" || c == "/") out = out c
        else fail()
    }
}
function value(path,    c, i, key) {
    skip(); c = peek()
    if (c == "{") {
        pos++; skip()
        if (peek() == "}") { pos++; return }
        while (1) {
            skip(); key = string(); expect(":"); value(join(path, key)); skip()
            c = peek(); pos++
            if (c == "}") return
            if (c != ",") fail()
        }
    }
    if (c == "[") {
        pos++; skip(); i = 0
        if (peek() == "]") { pos++; return }
        while (1) {
            value(join(path, i++)); skip()
            c = peek(); pos++
            if (c == "]") return
            if (c != ",") fail()
        }
    }
    if (c == "\"") { emit(path, string()); return }
    if (!match(substr(text, pos, 64), /^(-?[0-9][0-9.eE+-]*|true|false|null)/)) fail()
    emit(path, substr(text, pos, RLENGTH)); pos += RLENGTH
}
function emit(path, scalar) {
    gsub(/[\001-\037]/, " ", path); gsub(/[\001-\037]/, " ", scalar)
    print path "\t" scalar
}
