#!/bin/sh
# WRANGLER_DOCKER_BIN for the tests: the machine's own docker, made to do with an engine that has no buildx and no
# registry. Where both are there, nothing changes but that an image which is present is not pulled again.
set -eu

docker=docker
[ -x /usr/bin/docker ] && docker=/usr/bin/docker

case "${1-}" in
build)
  if ! "$docker" buildx version >/dev/null 2>&1; then
    # The classic builder builds for its own platform, loads always, and knows none of these.
    left=$#
    while [ "$left" -gt 0 ]; do
      argument=$1
      shift
      left=$((left - 1))
      case "$argument" in
      --load | --provenance=* | --platform=*) ;;
      --platform)
        shift
        left=$((left - 1))
        ;;
      *) set -- "$@" "$argument" ;;
      esac
    done
    export DOCKER_BUILDKIT=0
  fi
  ;;
pull)
  for argument in "$@"; do
    case "$argument" in
    pull | -* | linux/*) ;;
    *) if "$docker" image inspect "$argument" >/dev/null 2>&1; then exit 0; fi ;;
    esac
  done
  ;;
ps)
  # At its end wrangler removes all containers of its image, so also those of another wrangler with an equal image. The
  # tag is its own: only containers started by that name are its to remove.
  for argument in "$@"; do
    case "$argument" in
    ancestor=*)
      "$docker" ps --all --no-trunc --format '{{.ID}} {{.Image}}' | while read -r id image; do
        if [ "$image" = "${argument#ancestor=}" ]; then echo "$id"; fi
      done
      exit 0
      ;;
    esac
  done
  ;;
esac

exec "$docker" "$@"
