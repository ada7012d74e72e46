# Turns the output of `go test -bench` into JSON: one array of
# {"package", "name", "iterations", "metrics": {unit: value}}.
# Fails if there is no result or a test failed.
BEGIN { printf "[" }
$1 == "pkg:" { pkg = $2 }
/^(FAIL|--- FAIL|panic:)/ { failed = 1 }
/^Benchmark/ && NF >= 4 && $2 ~ /^[0-9]+$/ {
	name = $1
	sub(/-[0-9]+$/, "", name)
	sub(/^Benchmark/, "", name)
	gsub(/[\\"]/, "\\\\&", name)
	printf "%s\n  {\"package\": \"%s\", \"name\": \"%s\", \"iterations\": %s, \"metrics\": {", (count++ ? "," : ""), pkg, name, $2
	for (i = 3; i < NF; i += 2)
		printf "%s\"%s\": %s", (i > 3 ? ", " : ""), $(i + 1), ($i ~ /^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$/) ? $i : "null"
	printf "}}"
}
END {
	printf "\n]\n"
	if (failed || !count) exit 1
}
