// Package mesh holds the modules whose files the tests read: it pins them beside the tools.
package mesh

import (
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil" // the CRDs of the Prometheus operator
	_ "sigs.k8s.io/gateway-api/apis/v1"                                    // the CRDs of the Gateway API
)
