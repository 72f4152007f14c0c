// Command sbom lists the modules of programs, from the build information in each program:
//
//	sbom build/pgqueue build/pgqueue-server
//
// writes build/pgqueue.cdx.json and build/pgqueue-server.cdx.json in the format of CycloneDX. The same program gives
// the same file. With "sbom -o FILE PROGRAM" the file has another name.
package main

import (
	"cmp"
	"debug/buildinfo"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	document := flag.String("o", "", "`file` to write; default PROGRAM.cdx.json")
	flag.Parse()
	if flag.NArg() == 0 || *document != "" && flag.NArg() > 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM... | sbom -o FILE PROGRAM")
		os.Exit(2)
	}

	for _, program := range flag.Args() {
		if err := describeFile(program, cmp.Or(*document, program+".cdx.json")); err != nil {
			fmt.Fprintf(os.Stderr, "sbom: %s: %v\n", program, err)
			os.Exit(1)
		}
	}
}

// describeFile writes the bill of materials of a program to document.
func describeFile(program, document string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}

	f, err := os.Create(document)
	if err != nil {
		return err
	}
	if err := writeBillOfMaterials(f, describeProgram(filepath.Base(program), info)); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func writeBillOfMaterials(w io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// describeProgram returns the bill of materials of a program: the program, the standard library and every linked module.
func describeProgram(name string, info *debug.BuildInfo) *cdx.BOM {
	bom := cdx.NewBOM()
	main := moduleComponent(&info.Main)
	main.Type, main.Name = cdx.ComponentTypeApplication, name
	bom.Metadata = &cdx.Metadata{Component: &main}

	parts := []cdx.Component{moduleComponent(&debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")})}
	for _, dep := range info.Deps {
		if dep.Replace != nil && dep.Replace.Version != "" {
			dep = dep.Replace
		}
		parts = append(parts, moduleComponent(dep))
	}

	refs := make([]string, len(parts))
	for i := range parts {
		refs[i] = parts[i].BOMRef
	}
	slices.Sort(refs)

	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return bom
}

// moduleComponent returns the entry of a module, named by its package URL.
func moduleComponent(m *debug.Module) cdx.Component {
	url := "pkg:golang/" + m.Path
	if m.Version != "" && m.Version != "(devel)" {
		url += "@" + m.Version
	}
	return cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url, Scope: cdx.ScopeRequired}
}
