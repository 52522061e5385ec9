// Command download does what Istio's agent does, beside a proxy, with an extension configuration whose code is to be
// downloaded: by the agent's own package. It reads the configuration as JSON, and writes what the proxy gets to a file.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
	"istio.io/istio/pkg/wasm"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: download FOLDER RESULT <configuration")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// run converts the configuration on standard input; modules go to a folder. Standard output is the package's, for its log.
func run(folder, result string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	asked := &core.TypedExtensionConfig{}
	if err := protojson.Unmarshal(text, asked); err != nil {
		return fmt.Errorf("no extension configuration: %w", err)
	}
	resource, err := anypb.New(asked)
	if err != nil {
		return err
	}
	resources := []*anypb.Any{resource}
	cache := wasm.NewLocalFileCache(folder, wasm.Options{HTTPRequestTimeout: 5 * time.Second, HTTPRequestMaxRetries: 1})
	if err := wasm.MaybeConvertWasmExtensionConfig(resources, cache); err != nil {
		return err
	}
	got := &core.TypedExtensionConfig{}
	if err := resources[0].UnmarshalTo(got); err != nil {
		return err
	}
	text, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(got)
	if err != nil {
		return err
	}
	return os.WriteFile(result, text, 0o600)
}
