package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func TestDescribe(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := writeBillOfMaterials(w, describeProgram("sbom", info)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("the same program gives the same bill", func(t *testing.T) {
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Error("two bills of one program differ")
		}
	})
	t.Run("every linked module is in it, with its version", func(t *testing.T) {
		var bom cdx.BOM
		if err := cdx.NewBOMDecoder(&first, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		in := map[string]string{}
		for _, c := range *bom.Components {
			in[c.Name] = c.Version
		}
		if in["stdlib"] == "" {
			t.Error("the standard library is missing")
		}
		for _, dep := range info.Deps {
			if in[dep.Path] != dep.Version {
				t.Errorf("%s: version must be %s, got %q", dep.Path, dep.Version, in[dep.Path])
			}
		}
	})
}
