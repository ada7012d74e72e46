// Picture draws a piece of the Mandelbrot set as /out/tile.png, and does what a
// hostile program would do to a page: markup and control characters on standard
// output, and markup in a file that is called a picture. It is a program of the
// page's tests.
package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log"
	"os"
	"strconv"
)

const side, tiles = 96, 4 // pixels of a tile, tiles of a row

func main() {
	unit, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	img := image.NewPaletted(image.Rect(0, 0, side, side), shades())
	for y := range side {
		for x := range side {
			re := -2.2 + 3.2*float64(unit%tiles*side+x)/(side*tiles)
			im := -1.6 + 3.2*float64(unit/tiles%tiles*side+y)/(side*tiles)
			img.SetColorIndex(x, y, steps(complex(re, im)))
		}
	}
	f, err := os.Create("/out/tile.png")
	if err != nil {
		log.Fatal(err)
	}
	if err := png.Encode(f, img); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
	attack := `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
	if err := os.WriteFile("/out/"+attack[:28]+".png", []byte("<svg xmlns='http://www.w3.org/2000/svg'>"+attack+"</svg>"), 0o600); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("tile %d\n%s\x1b[2J\u202eneddih\n", unit, attack)
}

func steps(c complex128) uint8 {
	z := c
	for n := range 255 {
		if real(z)*real(z)+imag(z)*imag(z) > 4 {
			return uint8(n)
		}
		z = z*z + c
	}
	return 255
}

func shades() (p color.Palette) {
	for i := range 255 {
		p = append(p, color.RGBA{uint8(min(255, i*3)), uint8(min(255, 40+i*8)), uint8(min(255, 70+i*12)), 255})
	}
	return append(p, color.RGBA{8, 20, 30, 255})
}
