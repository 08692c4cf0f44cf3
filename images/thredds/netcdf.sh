# A NetCDF file in the classic format (CDF-1), written byte by byte: a grid of temperatures.
# Format: https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
# shellcheck shell=bash

be16() { printf "\\x$(printf %02x $((($1 >> 8) & 255)))\\x$(printf %02x $(($1 & 255)))"; }
be32() { be16 $(($1 >> 16)); be16 $(($1 & 65535)); }
# Text with its length, filled up to a multiple of four.
text() {
  local n=${#1}
  be32 "$n"
  printf %s "$1"
  while [ $((n % 4)) != 0 ]; do printf '\0'; n=$((n + 1)); done
}
# NAME TEXT: an attribute of type NC_CHAR (2).
attribute() { text "$1"; be32 2; text "$2"; }
# NAME COUNT: the head of a list: dimensions (10), variables (11), attributes (12).
list() { be32 "$1"; be32 "$2"; }
# NAME STANDARD_NAME UNITS DIMENSION SIZE OFFSET: a coordinate of type NC_INT (4).
coordinate() {
  text "$1"; be32 1; be32 "$4"
  list 12 2; attribute standard_name "$2"; attribute units "$3"
  be32 4; be32 "$5"; be32 "$6"
}

# OFFSET: the header of a file whose data begin there.
header() {
  printf 'CDF\1'; be32 0
  list 10 3; text time; be32 2; text lat; be32 5; text lon; be32 9
  list 12 2; attribute Conventions CF-1.8; attribute title "nslab test grid"
  list 11 4
  coordinate time time "hours since 2024-01-01 00:00:00" 0 8 "$1"
  coordinate lat latitude degrees_north 1 20 $(($1 + 8))
  coordinate lon longitude degrees_east 2 36 $(($1 + 28))
  text temperature; be32 3; be32 0; be32 1; be32 2
  list 12 3; attribute standard_name air_temperature; attribute units degC
  text scale_factor; be32 5; be32 1; be32 $((0x3dcccccd))   # NC_FLOAT 0.1
  be32 3; be32 180; be32 $(($1 + 64))                       # NC_SHORT
}

test_dataset() {
  local t lat lon
  header "$(header 0 | wc -c)"
  for t in 0 6; do be32 $t; done
  for lat in -60 -30 0 30 60; do be32 $((lat & 0xffffffff)); done
  for lon in 0 40 80 120 160 200 240 280 320; do be32 $lon; done
  for t in 0 1; do
    for lat in 0 1 2 3 4; do
      for lon in 0 1 2 3 4 5 6 7 8; do be16 $((100 + 50 * t + 10 * lat + lon)); done
    done
  done
}
