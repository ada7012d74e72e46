//go:build !(cgo && (amd64 || (arm64 && !windows)) && (linux || darwin || windows))

package sandbox

var (
	engineNames = []string{Wazero}
	engines     = map[string]engine{Wazero: wazeroEngine}
)

func validate(code []byte) error { return validateWazero(code) }
