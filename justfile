# The commands that people repeat. `pip install rust-just` or `cargo install just`; `just` lists them.

set positional-arguments

# List the recipes
default:
    @just --list

# Start the service on this machine, for example: just run --port 0
run *arguments:
    cargo run -p local -- "$@"

# Run the three steps once and show every request and answer
demo:
    cargo run -p local -- demo

# Run the operator's command line on the local stack, for example: just mfactl device list
mfactl *arguments:
    cargo run -p mfactl -- --local "$@"

# Check formatting, lints and the documents: the quick checks before a commit
check: fmt-check lint documents

# Format the code
fmt:
    cargo fmt --all

# Check the formatting
fmt-check:
    cargo fmt --all --check

# Run clippy as CI does
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run every test
test:
    cargo test --workspace

# Check every command, link and name in the documentation
documents:
    cargo test -p acceptance --test consistency

# Build the API documentation of the crates
doc:
    cargo doc --workspace --no-deps

# Simulate a year of guessing, for example: just odds --policy strict
odds *arguments:
    cargo run -p odds -- "$@"

# Measure the functions beside Python, Node.js and floors, for example: just bench --quick
bench *arguments:
    cargo run -p bench -- "$@"

# Invoke the real binaries with every sample event (needs cargo-lambda)
local-invoke:
    tests/local-invoke/run

# Run a million each: faulted requests, generated requests, random orders of events, decisions of two implementations
long-run seed="1":
    tests/long-run {{ seed }}

# Lint openapi.yaml and test it against the local stack (needs the tools in tests/contract/requirements.txt)
contract:
    tests/contract/run

# Run the programs of docs/clients.md and generated clients (needs the tools in tests/clients/requirements.txt)
clients:
    tests/clients/run

# Play drills of docs/operations.md on the local stack: client secrets, seeds, the key ring
drills:
    tests/drills/run

# Use the page of the local stack in Chromium, for example: just page --screenshot
page *arguments:
    tests/page/run "$@"

# Lint the template (needs the tools in tests/template/requirements.txt)
template:
    tests/template/check

# Build the functions for deployment (needs the tools in tests/deploy/requirements.txt)
deploy-build:
    sam build

# Make a release: functions for both processors, mfactl, checksums, bills of materials (needs the tools named in release/make)
release *arguments:
    release/make "$@"

# Deploy to an emulator on this machine and go through the three steps there
deploy-emulator:
    tests/deploy/run

# Run everything that a change must pass
ci:
    bash .ci/run
