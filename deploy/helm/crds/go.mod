// The modules whose definitions of resources the tests check by. Nothing of them is compiled, and nothing tidies this file.
module github.com/altyn-pay/altyn/deploy/helm/crds

go 1.26.0

require (
	github.com/cloudnative-pg/cloudnative-pg v1.29.0
	github.com/kedacore/keda/v2 v2.21.0
)
