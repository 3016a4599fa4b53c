"""Reads a lake by date (argv: folder, name of the level) and prints rows, sum(monto) and dates."""
import glob, os, sys
import pyarrow.compute as pc
import pyarrow.dataset as ds

root, level = sys.argv[1:3]
files = glob.glob(f"{root}/{level}=*/*.parquet")
table = ds.dataset(files, format="parquet").to_table(columns=["event_id", "monto"])
dates = {os.path.dirname(f) for f in files}
distinct = pc.count_distinct(table["event_id"]).as_py()
print(f"rows={table.num_rows} sum={pc.sum(table['monto']).as_py():.2f} dates={len(dates)} distinct={distinct} files={len(files)}")
