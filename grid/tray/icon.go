package tray

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
)

const (
	iconSize = 64 // pixels
	fine     = 3  // samples a pixel, each way
)

var (
	faceColors = map[Face]color.NRGBA{
		Working: {0x0f, 0x76, 0x6e, 0xff}, Waiting: {0x5b, 0x6b, 0x67, 0xff}, Paused: {0xa1, 0x62, 0x07, 0xff}, Lost: {0xb9, 0x1c, 0x1c, 0xff},
	}
	white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
)

// point is a place of the icon, in units of a 32nd of its size.
type point struct{ x, y float64 }

// The neighbours of Talka's sign.
var corners = []point{{16, 8.5}, {8.5, 21.5}, {23.5, 21.5}}

// drawn reports whether a point is part of a face's sign.
func drawn(f Face, p point) bool {
	switch f {
	case Paused:
		return p.y > 9 && p.y < 23 && (math.Abs(p.x-12.5) < 2 || math.Abs(p.x-19.5) < 2)
	case Lost:
		return within(segment(p, point{10.5, 10.5}, point{21.5, 21.5}), 1.9) || within(segment(p, point{21.5, 10.5}, point{10.5, 21.5}), 1.9)
	}
	for _, c := range corners {
		if d := math.Hypot(p.x-c.x, p.y-c.y); d < 3.4 {
			return f == Working || d > 1.6
		}
	}
	for i, c := range corners {
		if within(segment(p, c, corners[(i+1)%3]), 1) {
			return true
		}
	}
	return false
}

func within(d, most float64) bool { return d < most }

// segment is the distance of p from the line between a and b.
func segment(p, a, b point) float64 {
	dx, dy := b.x-a.x, b.y-a.y
	t := min(max(((p.x-a.x)*dx+(p.y-a.y)*dy)/(dx*dx+dy*dy), 0), 1)
	return math.Hypot(p.x-a.x-t*dx, p.y-a.y-t*dy)
}

// onPlate reports whether a point is on the rounded square behind the sign.
func onPlate(p point) bool {
	const radius = 8
	x, y := max(math.Abs(p.x-16)-(16-radius), 0), max(math.Abs(p.y-16)-(16-radius), 0)
	return math.Hypot(x, y) < radius
}

// Icon is a face as a picture in PNG.
func Icon(f Face) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, iconSize, iconSize))
	const step = 32.0 / iconSize / fine
	for y := range iconSize {
		for x := range iconSize {
			plate, sign := 0, 0
			for i := range fine * fine {
				p := point{(float64(x*fine+i%fine) + 0.5) * step, (float64(y*fine+i/fine) + 0.5) * step}
				if onPlate(p) {
					plate++
					if drawn(f, p) {
						sign++
					}
				}
			}
			if plate > 0 {
				img.SetNRGBA(x, y, mix(faceColors[f], white, float64(sign)/float64(plate), float64(plate)/(fine*fine)))
			}
		}
	}
	var b bytes.Buffer
	_ = png.Encode(&b, img) // to memory
	return b.Bytes()
}

func mix(a, b color.NRGBA, part, alpha float64) color.NRGBA {
	of := func(x, y uint8) uint8 { return uint8(float64(x) + (float64(y)-float64(x))*part + 0.5) }
	return color.NRGBA{of(a.R, b.R), of(a.G, b.G), of(a.B, b.B), uint8(255*alpha + 0.5)}
}

// ico wraps a PNG for Windows, which reads pictures in a container of its own.
func ico(picture []byte) []byte {
	head := []any{
		uint16(0), uint16(1), uint16(1), // an icon, one picture
		uint8(iconSize), uint8(iconSize), uint8(0), uint8(0), uint16(1), uint16(32), uint32(len(picture)), uint32(22),
	}
	var b bytes.Buffer
	for _, v := range head {
		_ = binary.Write(&b, binary.LittleEndian, v) // to memory
	}
	b.Write(picture)
	return b.Bytes()
}
