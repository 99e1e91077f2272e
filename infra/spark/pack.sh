#!/usr/bin/env bash
# Python with all that a Spark job of ours needs, as one archive: build/spark/environment.tar.gz, and job.py
# beside it. It holds the interpreter too, so make it on a system like the cluster's. Usage: pack.sh UV PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."
uv=$1 python=$2 folder=build/spark/environment
about() { "$python" -c "import sys, sysconfig; print($1)"; }
version=python$(about '"%d.%d" % sys.version_info[:2]')
library=$folder/lib/$version
rm -rf "$folder"
mkdir -p "$folder/bin" "$library"
tar -C "$(about 'sysconfig.get_path("stdlib")')" --exclude=site-packages --exclude=dist-packages \
    --exclude=__pycache__ --exclude=test --exclude=idlelib --exclude='config-*' -cf - . | tar -C "$library" -xf -
cp -L "$(about 'sys._base_executable')" "$folder/bin/$version"
ln -s "$version" "$folder/bin/python"
shared=$(about 'sysconfig.get_config_var("LIBDIR") + "/" + (sysconfig.get_config_var("INSTSONAME") or "")')
case $shared in *.so*) cp -L "$shared" "$folder/lib/" ;; esac
"$uv" pip install --quiet --require-hashes --target "$library/site-packages" --python "$python" \
    -r infra/spark/executors.txt
cp -r layers/core/python/marquee "$library/site-packages/"
mkdir "$library/site-packages/infra"
cp -r infra/__init__.py infra/spark "$library/site-packages/infra/"
find "$library/site-packages" -name __pycache__ -type d -prune -exec rm -rf {} +
tar -C "$folder" -I "gzip -3" -cf build/spark/environment.tar.gz .  # harder presses little more out of wheels
cp infra/spark/job.py build/spark/job.py
rm -rf "$folder"
du -h build/spark/environment.tar.gz
