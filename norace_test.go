//go:build !race

package leat

const raceDetector = false
