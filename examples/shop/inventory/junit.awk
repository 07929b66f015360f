# Makes of what `go test -v` prints a report in JUnit's format.
function escaped(text) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text); gsub(/"/, "\\&quot;", text)
    return text
}
/^=== RUN/ { said = "" }
/^ *--- (PASS|FAIL|SKIP): / {
    seconds = $4
    gsub(/[()s]/, "", seconds)
    line = "  <testcase classname=\"" suite "\" name=\"" escaped($3) "\" time=\"" seconds "\">"
    if ($2 == "FAIL:") { failed++; line = line "<failure message=\"failed\">" escaped(said) "</failure>" }
    if ($2 == "SKIP:") { skipped++; line = line "<skipped/>" }
    cases[++count] = line "</testcase>"
    said = ""
    next
}
{ said = said $0 "\n" }
END {
    printf "<testsuite name=\"%s\" tests=\"%d\" failures=\"%d\" skipped=\"%d\">\n", suite, count, failed, skipped
    for (at = 1; at <= count; at++) print cases[at]
    print "</testsuite>"
}
