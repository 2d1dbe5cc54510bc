/** IndexedDB with promises. */

/** One store in a transaction. */
export class Rows<K extends IDBValidKey, V> {
  readonly #store: IDBObjectStore;

  constructor(store: IDBObjectStore) {
    this.#store = store;
  }

  get(key: K): Promise<V | undefined> {
    return settled<V | undefined>(this.#store.get(key));
  }

  getAll(range?: IDBKeyRange): Promise<V[]> {
    return settled<V[]>(this.#store.getAll(range));
  }

  getKeys(): Promise<K[]> {
    return settled(this.#store.getAllKeys() as IDBRequest<unknown> as IDBRequest<K[]>);
  }

  put(value: V, key: K): Promise<unknown> {
    return settled(this.#store.put(value, key));
  }

  delete(key: K | IDBKeyRange): Promise<unknown> {
    return settled(this.#store.delete(key));
  }

  clear(): Promise<unknown> {
    return settled(this.#store.clear());
  }
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the database refused it"));
  });
}

/**
 * @param stores made where they are missing. @param onBlocking called when another page wants a
 * newer version of the database.
 */
export async function openDatabase(
  name: string,
  stores: readonly string[],
  onBlocking: () => void,
): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => {
    for (const store of stores) request.result.createObjectStore(store);
  };
  const db = await settled<IDBDatabase>(request);
  db.onversionchange = onBlocking;
  return db;
}

/** Resolves when what was written is stored. @param work awaits nothing but its stores. */
export async function transact<T>(
  db: IDBDatabase,
  stores: readonly string[],
  mode: IDBTransactionMode,
  work: (tx: IDBTransaction) => Promise<T>,
): Promise<T> {
  const tx = db.transaction(stores, mode);
  const end = new Promise<void>((resolve, reject) => {
    tx.oncomplete = () => resolve();
    tx.onabort = () => reject(tx.error ?? new Error("the transaction was aborted"));
  });
  const [result] = await Promise.all([work(tx), end]);
  return result;
}
