package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/talka-grid/talka/chunkstore/whole"
)

// Files of a data directory beside those that other packages name.
const (
	keyName = "identity.key" // Ed25519 private key, PKCS #8 in PEM, mode 0600
	pemType = "PRIVATE KEY"
)

// loadKey reads the node's key.
func loadKey(dir string) (ed25519.PrivateKey, error) { return readKey(filepath.Join(dir, keyName)) }

// readKey reads a key that nobody else can read.
func readKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; run: chmod 600 %s", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%s is not a private key in PEM form", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	own, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is a %T, want an Ed25519 key", path, key)
	}
	return own, nil
}

// ensureKey reads the node's key, or makes one. The caller holds the lock.
func ensureKey(dir string) (key ed25519.PrivateKey, made bool, err error) {
	key, err = loadKey(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, false, err
	}
	return key, true, writeKey(filepath.Join(dir, keyName), key)
}

// writeKey is the inverse of readKey.
func writeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return whole.Write(path, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
}
