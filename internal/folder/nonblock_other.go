//go:build !unix

package folder

const nonBlock = 0
