// Command sbom tells what programs are made of, from what the go command wrote into them:
//
//	sbom build/pgqueue build/pgqueue-server
//
// writes build/pgqueue.cdx.json and so on, in the format of CycloneDX. The same program gives the same file.
package main

import (
	"debug/buildinfo"
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
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM...")
		os.Exit(2)
	}
	for _, program := range os.Args[1:] {
		if err := run(program); err != nil {
			fmt.Fprintf(os.Stderr, "sbom: %s: %v\n", program, err)
			os.Exit(1)
		}
	}
}

func run(program string) (err error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return err
	}
	f, err := os.Create(program + ".cdx.json")
	if err != nil {
		return err
	}
	if err := write(f, describe(filepath.Base(program), info)); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func write(w io.Writer, bom *cdx.BOM) error {
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// describe is the bill of a program: what it is, the standard library and every module that is linked into it.
func describe(name string, info *debug.BuildInfo) *cdx.BOM {
	bom := cdx.NewBOM()
	main := component(&info.Main)
	main.Type, main.Name = cdx.ComponentTypeApplication, name
	bom.Metadata = &cdx.Metadata{Component: &main}
	parts := []cdx.Component{component(&debug.Module{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")})}
	for _, dep := range info.Deps {
		if dep.Replace != nil && dep.Replace.Version != "" {
			dep = dep.Replace
		}
		parts = append(parts, component(dep))
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

func component(m *debug.Module) cdx.Component {
	url := "pkg:golang/" + m.Path
	if m.Version != "" && m.Version != "(devel)" {
		url += "@" + m.Version
	}
	return cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: url, Scope: cdx.ScopeRequired}
}
