#!/bin/sh
# Builds the images of a release for linux/amd64 and linux/arm64, pushes them with a list of their parts and with how they
# were built, and signs them. Needs Docker with buildx, logged in at the registry, and cosign. Usage: images.sh 0.1.0
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .altyn
# The builder of the engine itself makes images of one platform, and says nothing of what is in them.
builder=$(docker buildx create)
trap 'docker buildx rm "$builder"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for service in orders payments gateway altyn; do
	image=ghcr.io/altyn-pay/$service
	docker buildx build --builder "$builder" --file deploy/Dockerfile --platform linux/amd64,linux/arm64 \
		--build-arg SERVICE="$service" --build-arg VERSION="$1" --build-arg REVISION="$(git rev-parse --short=12 HEAD)" \
		--sbom=true --provenance=mode=max --output "type=image,push=true,rewrite-timestamp=true" \
		--tag "$image:$1" --iidfile .altyn/image .
	cosign sign --yes "$image@$(cat .altyn/image)"
done
