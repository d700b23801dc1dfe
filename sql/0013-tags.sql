-- SPDX-License-Identifier: MIT
-- A tag has 1 to 100 bytes, whoever submits it. What is stored stays as it is.

CREATE DOMAIN pgmill.tag AS text CONSTRAINT "1 to 100 bytes" CHECK (octet_length(VALUE) BETWEEN 1 AND 100);
ALTER DOMAIN pgmill.tags DROP CONSTRAINT "one dimension, at most 20, 4096 bytes together, none NULL";
ALTER DOMAIN pgmill.tags ADD CONSTRAINT "one dimension, at most 20, none NULL, each of 1 to 100 bytes"
  CHECK (coalesce(array_ndims(VALUE), 1) = 1 AND array_position(VALUE, NULL) IS NULL
         AND cardinality(VALUE::pgmill.tag[]) <= 20) NOT VALID;
