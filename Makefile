# `make help` lists the verbs. The full stack runs in one of two forms, chosen by STACK=docker or STACK=local: Docker
# Compose where an engine answers, otherwise the stack runner (deploy/cmd/stack), which needs nothing but Go.

SHELL := /bin/sh
MODULES := deploy examples/points gateway orders payments platform testkit
PACKAGES := $(MODULES:%=./%/...)

# timeout, where there is one: an engine that hangs is as good as none.
STACK ?= $(shell $$(command -v timeout && echo 3) docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 \
	&& echo docker || echo local)
IN_FORM = @$(MAKE) --no-print-directory $(STACK)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST))) runner

help: ## list the verbs
	@echo 'Altyn: orders, and their payments exactly once. make start brings everything up.'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1@\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=@ read -r verb text; do \
		printf '  %-14s%s\n' "$$verb" "$$text"; done

# The stack

build: ## build the services
	$(IN_FORM)-build
construct: ## build the services without any cache
	$(IN_FORM)-construct
run: ## start what is built, in the background
	$(IN_FORM)-run
stop: ## stop everything; the data stay
	$(IN_FORM)-stop
clean: ## stop everything and delete the data
	$(IN_FORM)-clean
start: build run ## build and run
rerun: stop run ## stop and run
restart: build stop run ## build, stop and run
fresh: clean start ## delete the data and start
env: build ## start only PostgreSQL and Kafka, for services started by hand (go run ./orders/cmd/orders)
	$(IN_FORM)-env
status: ## show what runs, and whether it is ready
	$(IN_FORM)-status
token: ## print a token of make start AUTH=dev (SUB=alice TENANT=shop SCOPE="orders:write orders:read")
	$(IN_FORM)-token
logs: ## show the logs, merged by time (SERVICE=payments for one part, FOLLOW=1 to go on, ID=… for what names it)
	$(IN_FORM)-logs

# The stack without Docker. What can be set: .altyn/bin/stack --help

RUNNER := .altyn/bin/stack

local-build local-run local-env: local-%: runner
	@$(RUNNER) $*
local-construct: runner
	@$(RUNNER) build --no-cache
local-stop local-clean local-status: local-%:
	@if test -x $(RUNNER); then $(RUNNER) $*; else echo 'nothing runs: nothing was built here'; fi
local-token:
	@test -x .altyn/bin/issuer || { echo 'nothing was built here: make start AUTH=dev' >&2; exit 1; }
	@.altyn/bin/issuer token
local-logs: runner
	@$(RUNNER) logs $(if $(FOLLOW),-f) $(if $(ID),--find "$(ID)") $(SERVICE)
runner:
	@test -x $(RUNNER) || echo 'building the stack runner …'
	@go build -o $(RUNNER) ./deploy/cmd/stack || { echo 'The stack runner could not be built. Where modules could not be fetched:' \
		'connect to the network once, or set GOPROXY to a mirror (go env -w GOPROXY=…). Without go: https://go.dev/dl'; exit 1; }

# The stack with Docker. AUTH=dev and AUTH=keycloak start an issuer of tokens beside it, OBSERVABILITY=1
# what watches it (deploy/observability).

ISSUER_OF_dev := http://issuer.localhost:8010
ISSUER_OF_keycloak := http://keycloak.localhost:8011/realms/altyn
WITH_ISSUER := $(if $(ISSUER_OF_$(AUTH)),AUTH=jwt AUTH_ISSUER=$(ISSUER_OF_$(AUTH)) AUTH_AUDIENCE=altyn)
WITH_TRACES := $(if $(OBSERVABILITY),OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger:4318)
PROFILES := $(if $(WITH_ISSUER),--profile $(AUTH)) $(if $(OBSERVABILITY),--profile observability)
COMPOSE := $(strip $(WITH_ISSUER) $(WITH_TRACES) docker compose $(PROFILES))

docker-build docker-construct: export ALTYN_REVISION ?= $(shell git describe --always --dirty --exclude '*' 2>/dev/null)
docker-build:
	$(COMPOSE) build
docker-construct:
	$(COMPOSE) build --no-cache
docker-run:
	$(COMPOSE) up --detach --wait --no-build
docker-stop:
	$(COMPOSE) --profile '*' down
docker-clean:
	$(COMPOSE) --profile '*' down --volumes --remove-orphans
docker-env:
	$(COMPOSE) up --detach --wait --no-build postgres kafka
	$(COMPOSE) run --rm orders-migrate
	$(COMPOSE) run --rm payments-migrate
docker-status:
	$(COMPOSE) --profile '*' ps
docker-token:
	@docker compose --profile dev exec --no-TTY --env SUB="$$SUB" --env TENANT="$$TENANT" --env SCOPE="$$SCOPE" issuer /service token
docker-logs:
	$(COMPOSE) --profile '*' logs $(if $(FOLLOW),--follow) $(SERVICE)$(if $(ID), | grep -F -e '$(ID)')

# Tests and tools

# Not from the cache: it does not know that the whole-system tests are about the services' programs too.
test: ## run all tests with the race detector; the packages share one PostgreSQL
	go run ./testkit/cmd/with-postgres -- go test -race -count=1 -timeout 20m $(PACKAGES)
	go test ./payments/internal/ledger -run TestManyOperations -v -operations 10000000
	@test -n "$$ALTYN_CITUS" || echo 'ALTYN_CITUS names no coordinator: Citus is not covered (docs/scaling.md)'
	GOWORK=off go -C deploy/helm test -count=1 ./...
test-compose: ## try the form with Docker: orders, two payments instances, killed containers
	go run ./deploy/cmd/compose
# A program of deploy/tools. It is compiled once, which takes minutes for the largest.
TOOL = $$(GOWORK=off go -C deploy/tools tool -n $(1))
BUF = $(call TOOL,buf)
# The tag leaves out what finds targets in clouds, which is most of it.
PROMTOOL = $$(GOWORK=off GOFLAGS=-tags=remove_all_sd go -C deploy/tools/promtool tool -n promtool)
lint: ## check Go (.golangci.yaml), known vulnerabilities, the specifications, the alerts, and that contracts only gain
	$(call TOOL,golangci-lint) run $(PACKAGES)
	deploy/tools/vulnerabilities.sh $(call TOOL,govulncheck) $(MODULES)
	$(BUF) lint payments
	$(BUF) format --diff --exit-code payments
	$(BUF) breaking payments --against deploy/contracts/payments
	GOWORK=off go -C deploy/tools/contracts test ./...
	$(PROMTOOL) check rules deploy/observability/alerts.yml
	$(PROMTOOL) test rules deploy/observability/*_test.yml
	deploy/tools/lint.sh
generate: ## write the generated files anew
	go generate $(PACKAGES)
	GOWORK=off $(BUF) generate payments --template payments/buf.gen.yaml --output payments
docs: ## build the site of docs/ into .docs/site; a dead link is an error
	deploy/tools/docs.sh
ci: lint docs fresh-generated build-apart test ## do what CI does

# All files but the ignored ones, new ones too.
CHECKSUM := git ls-files -z --cached --others --exclude-standard | xargs -0 cksum | cksum
fresh-generated:
	@before=$$($(CHECKSUM)) && $(MAKE) --no-print-directory generate && test "$$before" = "$$($(CHECKSUM))" \
		|| { echo 'Generated files were stale: commit what make generate has written.'; exit 1; }
build-apart: # each module by itself
	@for module in $(MODULES); do echo "$$module: GOWORK=off go build ./..."; GOWORK=off go -C $$module build -o /dev/null ./... || exit 1; done

# Releases: docs/releasing.md

# The programs of deploy/tools/release take minutes to compile, which happens once. Files are made one after another,
# since an archive has its programs in the order in which they were built.
RELEASE_TOOL = $$(GOWORK=off go -C deploy/tools/release tool -n $(1))
GORELEASER = sbom=$(call RELEASE_TOOL,cyclonedx-gomod) && goreleaser=$(call RELEASE_TOOL,goreleaser) \
	&& export PATH="$${sbom%/*}:$$PATH" && $(1) "$$goreleaser" release --clean --parallelism 1
# In a clone, since goreleaser knows neither the commit nor its time where the repository has no remote one.
SNAPSHOT = rm -rf $(1) && git clone --quiet . $(1) && $(call GORELEASER,cd $(1) && $(2)) --snapshot --skip=sign
CONTRACTS := orders/docs/swagger.json payments/docs/swagger.json payments/buf.yaml \
	payments/api/altyn/payments/v1/payment_service.proto platform/contract/asyncapi.yaml platform/contract/golden

release-snapshot: ## make the files of a release of what is committed, in .altyn/snapshot/.altyn/release
	$(call SNAPSHOT,.altyn/snapshot)
release-check: release-snapshot ## make them once more in another folder, without a cache: the bytes must be the same
	$(call SNAPSHOT,.altyn/again,GOCACHE=$$PWD/.altyn/cache)
	diff .altyn/snapshot/.altyn/release/checksums.txt .altyn/again/.altyn/release/checksums.txt
release: ## make, sign and publish (as a draft) the release of the tag that is checked out; the GitHub workflow does it
	@mkdir -p .altyn
	tag=$$(git describe --exact-match --tags) && deploy/tools/notes.sh "$${tag#v}" <CHANGELOG.md >.altyn/notes.md
	$(call GORELEASER) --release-notes .altyn/notes.md
promise: ## take the contracts as they are for those of the release, which may only gain from then on
	rm -rf deploy/contracts && mkdir deploy/contracts && tar -cf - $(CONTRACTS) | tar -xf - -C deploy/contracts

# What can be set: go run ./deploy/cmd/bench --help. The whole takes some half an hour.
bench: ## measure orders and operations per second, beside pgbench on the same PostgreSQL
	go run ./deploy/cmd/bench
# What can be set: go run ./deploy/cmd/faults --help. It needs Java and Maven, and root's right to mount for full disks.
faults: ## kill, pause, cut, fill disks and step clocks on a stack of its own, and look what was lost (SEED=, INJECTIONS=, TIME=, BROKERS=3)
	go run ./deploy/cmd/faults
# What can be set: go run ./deploy/cmd/drill --help.
drill: ## lose each database under load, restore it to a moment before, and check what became of everything
	go run ./deploy/cmd/drill
explain: ## say where an order or an operation is, why, and what to do next (ID=…)
	@go build -o .altyn/bin/altyn ./deploy/cmd/altyn && .altyn/bin/altyn explain $(ID)
demo: ## place a few thousand orders on the running stack and add everything up
	go run ./deploy/cmd/demo
