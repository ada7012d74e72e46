//go:build !(cgo && (amd64 || (arm64 && !windows)) && (linux || darwin || windows))

package sandbox

import "errors"

func engineNames() []string { return []string{Wazero} }

func validate(code []byte) error { return validateWazero(code) }

func loadWasmtime(loadOrder) (program, loadAnswer, error) {
	return nil, loadAnswer{}, errors.New("this build has no wasmtime")
}
