package cli

import (
	"net"
	"os"
	"strconv"
)

// IsAddress tells whether one could listen there, as far as the text says.
func IsAddress(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	return err == nil
}

// IsFile tells whether there is such a file.
func IsFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
