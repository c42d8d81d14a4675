# Unpacks chosen members of wheels. Arguments: the folder to fill, then for each wheel its path, the number of its
# rules, and the rules, each three words: a pattern, "flat" or "strip", and a folder or a prefix. Prints the number
# of bytes to write, then from time to time the number written so far.
import fnmatch
import os
import sys
import zipfile

out, words = sys.argv[1], sys.argv[2:]
plan, total = [], 0
while words:
    wheel, count = words[0], int(words[1])
    rules = [words[2 + 3 * i:5 + 3 * i] for i in range(count)]
    words = words[2 + 3 * count:]
    archive, matched = zipfile.ZipFile(wheel), 0
    for info in archive.infolist():
        if info.is_dir():
            continue
        for pattern, kind, operand in rules:
            if fnmatch.fnmatchcase(info.filename, pattern):
                if kind == "flat":
                    path = operand + "/" + info.filename.rsplit("/", 1)[-1]
                else:
                    path = info.filename[len(operand):]
                if os.path.isabs(path) or ".." in path.split("/"):
                    sys.exit("%s: member %s leaves the folder" % (wheel, info.filename))
                plan.append((archive, info, os.path.join(out, path)))
                total, matched = total + info.file_size, matched + 1
                break
    if matched == 0:
        sys.exit("%s holds none of the expected files" % wheel)

print(total, flush=True)
done = shown = 0
for archive, info, path in plan:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with archive.open(info) as source, open(path, "wb") as target:
        while True:
            chunk = source.read(1 << 20)
            if not chunk:
                break
            target.write(chunk)
            done += len(chunk)
            if done - shown >= 1 << 23:
                shown = done
                print(done, flush=True)
