package httpapi

import (
	"math"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// rgb is a colour in linear light.
type rgb [3]float64

// sight is what somebody sees of a colour.
type sight [3]rgb

// sights are the usual one and those without one kind of cones, after Machado, Oliveira and Fernandes
// (2009).
var sights = map[string]sight{
	"all cones":    {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"protanopia":   {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"deuteranopia": {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"tritanopia":   {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
}

func parseColor(t *testing.T, text string) (c rgb) {
	for i := range c {
		n, err := strconv.ParseUint(text[2*i:2*i+2], 16, 8)
		require.NoError(t, err)
		if c[i] = float64(n) / 255; c[i] <= 0.04045 {
			c[i] /= 12.92
		} else {
			c[i] = math.Pow((c[i]+0.055)/1.055, 2.4)
		}
	}
	return c
}

func (s sight) see(c rgb) (seen rgb) {
	for i, row := range s {
		seen[i] = min(1, max(0, row[0]*c[0]+row[1]*c[1]+row[2]*c[2]))
	}
	return seen
}

// oklab returns a colour in a space in which distances are those that are seen.
func (c rgb) oklab() rgb {
	l := math.Cbrt(0.4122214708*c[0] + 0.5363325363*c[1] + 0.0514459929*c[2])
	m := math.Cbrt(0.2119034982*c[0] + 0.6806995451*c[1] + 0.1073969566*c[2])
	s := math.Cbrt(0.0883024619*c[0] + 0.2817188376*c[1] + 0.6299787005*c[2])
	return rgb{
		0.2104542553*l + 0.7936177850*m - 0.0040720468*s,
		1.9779984951*l - 2.4285922050*m + 0.4505937099*s,
		0.0259040371*l + 0.7827717662*m - 0.8086757660*s,
	}
}

func (c rgb) luminance() float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }

func contrast(a, b rgb) float64 {
	x, y := a.luminance()+0.05, b.luminance()+0.05
	return max(x, y) / min(x, y)
}

// Whatever somebody's sight, no two bands look alike (a difference of 0.02 is just seen when two are side
// by side), and all stand out from the ground.
func TestColorsCanBeToldApart(t *testing.T) {
	style, err := assets.ReadFile("assets/style.css")
	require.NoError(t, err)
	color := regexp.MustCompile(`--c\d: #(\w{6})`).FindAllSubmatch(style, -1)
	ground := regexp.MustCompile(`--ground: #(\w{6})`).FindAllSubmatch(style, -1)
	require.Len(t, color, 2*hues)
	require.Len(t, ground, 2)
	for scheme, name := range []string{"light", "dark"} {
		behind := parseColor(t, string(ground[scheme][1]))
		var bands []rgb
		for _, c := range color[scheme*hues : (scheme+1)*hues] {
			band := parseColor(t, string(c[1]))
			require.GreaterOrEqual(t, contrast(band, behind), 3.0, "%s %s", name, c[1])
			bands = append(bands, band)
		}
		for of, sight := range sights {
			least := math.Inf(1)
			for i, a := range bands {
				for _, b := range bands[:i] {
					a, b := sight.see(a).oklab(), sight.see(b).oklab()
					least = min(least, math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2]))
				}
			}
			t.Logf("%s, %s: the closest two differ by %.3f", name, of, least)
			require.Greater(t, least, 0.08, "%s, %s", name, of)
		}
	}
}
